"""Text: from dumps, books and files to documents, sentences and a vocabulary."""
