"""Losses, credit, advantages: pure JAX maths for one trajectory or group."""
