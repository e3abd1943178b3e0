"""Erasure: what a lake knows of some pictures, deleted from all of its files."""
