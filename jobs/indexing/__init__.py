"""The vector index of a lake: made, kept under it, brought up to date and searched."""
