"""TODO components/store."""
