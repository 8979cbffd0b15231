"""TODO components/pages."""
