"""What is wrong with an image: rows of the table `issues`, by what finds them."""
