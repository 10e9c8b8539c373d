"""Is this text right? Verifiers of answers, pure Python on text, without JAX."""
