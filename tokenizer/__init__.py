"""Text to word pieces, exactly as google-research/bert does it; NumPy, and Numba for the inner loops."""
