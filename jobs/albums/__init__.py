"""Albums: the pictures of one owner, laid out to be read at once, and grouped while a person waits."""
