"""EMR: packages, plans, submits and watches runs on AWS, and says what they cost."""
