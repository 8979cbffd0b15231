"""The model, its training, evaluation and fine-tuning, and the records they read."""
