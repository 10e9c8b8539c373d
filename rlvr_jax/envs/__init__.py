"""Tasks: mappings from a split's name to a sequence of `Task`."""
