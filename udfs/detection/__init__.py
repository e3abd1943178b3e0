"""Detectors: whether there are faces and text in a picture, and how large."""
