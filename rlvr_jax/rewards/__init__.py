"""What is a completion worth? Rewards: pure Python on text, without JAX."""
