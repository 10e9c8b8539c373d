"""Mathematics: read from text, and compared. Nothing is evaluated."""
