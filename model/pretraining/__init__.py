"""TODO model/pretraining."""
