"""The map: all images as points of a plane."""
