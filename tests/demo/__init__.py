"""A lake of pictures with planted trouble, the truth about it, and a judge that compares the two."""
