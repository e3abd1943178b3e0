"""Executor code: numpy in, numpy out. Imports neither `jobs` nor a SparkSession."""

__version__ = "0.1.0"
