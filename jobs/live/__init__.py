"""Alive: what has just come into a bucket or a folder, brought into the lake as it comes."""
