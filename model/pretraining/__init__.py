"""Pretraining: where a stage starts, its updates, its held-out scores, its evaluation."""
