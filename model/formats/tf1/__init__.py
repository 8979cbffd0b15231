"""google-research/bert's checkpoints of TensorFlow 1."""
