"""Finds the final answer in a text. Nothing is evaluated."""
