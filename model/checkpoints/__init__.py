"""Checkpoints of the model in the formats that bertline reads and writes."""
