"""Evaluations: samples, metrics, comparison of runs, checkpoints that are asked."""
