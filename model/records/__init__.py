"""TODO model/records."""
