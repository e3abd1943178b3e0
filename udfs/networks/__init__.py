"""Embedding networks: which there are, what they need, and how they run."""
