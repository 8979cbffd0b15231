"""Files of fine-tuning tasks to encoded examples."""
