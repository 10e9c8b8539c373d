"""Worlds to guess in: tables of objects, attributes and how to read messages."""
