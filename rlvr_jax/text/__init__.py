"""Chat templates: messages to the one string that a model reads."""
