"""Rewards and verifiers: pure Python on text, without JAX."""
