"""Models in the formats of other libraries: read, written, detected, and compared."""
