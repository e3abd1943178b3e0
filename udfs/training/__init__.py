"""Training sets: the files of a shard, written by a worker."""
