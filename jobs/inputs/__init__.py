"""What can be given to a run: shards, inventories and vectors, each as rows of references."""
