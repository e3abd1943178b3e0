"""Variants of a lake's pictures over HTTP, and where they are kept."""
