"""A pretrained checkpoint to a model of one task."""
