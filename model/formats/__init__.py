"""Models in the formats of other libraries: read, written, told apart, and proved equal."""
