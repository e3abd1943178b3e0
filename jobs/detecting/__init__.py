"""Detectors of faces and text: their pass over the pictures of a lake, a part of the stage `embed`."""
