"""Upkeep: the tables of a lake that changes often, kept small."""
