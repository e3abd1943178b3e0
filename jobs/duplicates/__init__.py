"""What the duplicates of an image are, and which of them is kept."""
