"""Weights and tokenizers, in and out."""
