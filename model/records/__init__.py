"""Records: rows, their masks, two encodings, the files they lie in, and batches of them."""
