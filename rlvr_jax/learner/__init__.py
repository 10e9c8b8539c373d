"""One update: batches, micro-batches, gradient, optimiser, programs."""
