"""The pipeline graphs, their platforms, named runs and the command line."""
