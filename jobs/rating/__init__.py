"""Ratings of a lake: heads that are kept in it, learnt from files of judgements, scored, suggested and explained."""
