"""How much did a reward say? The signal map of a checkpoint."""
