"""Ratings: heads learnt from judgements on stored vectors, what they are worth, and where scores come from."""
