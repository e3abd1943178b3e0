"""Arithmetic on vectors: cells, search, neighbours, groups, topics."""
