"""Sources of text to documents: Wikipedia dumps, books, plain text, WikiExtractor output, jsonl."""
