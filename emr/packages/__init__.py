"""What goes to the nodes: the environment, the zip, the model, and their upload."""
