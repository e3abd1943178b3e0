"""From the bytes of an image file to what a network, or a person, sees: one code for lake, training and service."""
