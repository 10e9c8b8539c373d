"""Evaluation statistics: pass@k, calibration, intervals, votes, coverage."""

from rlvr_jax.stats.passk import pass_at_k

__all__ = ['pass_at_k']
