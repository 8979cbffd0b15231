"""Hugging Face and sentence-transformers folders."""
