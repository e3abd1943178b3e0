"""Albums over HTTP: one owner's pictures by groups."""
