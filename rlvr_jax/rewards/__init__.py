"""What is a completion worth? Rewards are pure Python on text, without JAX."""
