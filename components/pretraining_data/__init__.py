"""Sentences to records of masked-LM and next-sentence instances."""
