"""TODO model/formats/tf1."""
