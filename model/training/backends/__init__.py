"""TensorFlow and JAX: what the training loop needs of them beyond Keras operations."""
