"""Albums: when pictures were taken, and one owner's pictures as bytes that are read at once."""
