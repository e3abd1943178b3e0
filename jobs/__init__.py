"""Driver code: one file a stage, and the contract of the tables between them."""

__version__ = "0.1.0"
