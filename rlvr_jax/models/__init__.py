"""One flax.linen decoder for five model families; samplers and log-probs."""
