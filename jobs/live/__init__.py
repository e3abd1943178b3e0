"""Alive: images that arrive are brought into a lake one batch at a time, at a cost in proportion to what is new."""
