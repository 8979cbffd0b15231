"""Text to the vectors of its tokens."""
