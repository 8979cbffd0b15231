"""Text to word pieces, exactly as google-research/bert does it; NumPy alone."""
