"""TODO model/finetuning."""
