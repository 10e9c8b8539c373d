"""Do two mathematical expressions mean the same? Nothing is evaluated."""
