"""TODO components/pretraining_data."""
