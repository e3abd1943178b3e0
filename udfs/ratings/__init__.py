"""Ratings: heads learnt from judgements on stored vectors, what they are worth, and where in a picture they come from."""
