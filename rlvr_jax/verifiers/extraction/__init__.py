"""Which part of a text is its final answer? Nothing is evaluated."""
