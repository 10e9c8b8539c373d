"""What can be guessed? Worlds: objects, attributes and message parsers."""
