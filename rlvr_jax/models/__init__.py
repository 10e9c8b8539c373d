"""One flax.linen decoder for four model families; samplers and log-probs."""
