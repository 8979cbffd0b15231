"""SavedModels with TF Hub's encoder interface."""
