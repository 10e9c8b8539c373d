"""Evaluation: samples of held-out tasks, their metrics, comparisons."""
