"""TODO model/formats/savedmodel."""
