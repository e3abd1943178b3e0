"""SQL views over the tables of a lake, for analysts."""
