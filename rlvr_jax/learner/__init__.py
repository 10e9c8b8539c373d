"""One update: micro-batches, loss and gradient, optimiser, compiled programs."""
