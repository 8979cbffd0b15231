"""TODO model/features."""
