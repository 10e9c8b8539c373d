"""Weights, tokenizers, chat templates, checkpoints, frozen models."""
