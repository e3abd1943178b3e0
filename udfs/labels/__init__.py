"""Which labels are wrong: the classifier, how labels become wrong, how many are, and what they cost."""
