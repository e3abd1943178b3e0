"""One picture: its pixels, what can be told of them, and the rows in which that travels."""
