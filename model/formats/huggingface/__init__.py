"""TODO model/formats/huggingface."""
