"""One decoder (flax.linen) that covers four families by config."""
