"""Is this text right? Verifiers of answers: pure Python, without JAX."""
