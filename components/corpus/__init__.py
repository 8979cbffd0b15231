"""TODO components/corpus."""
