"""The steps that prepare data: documents, sentences, vocabulary, records, tasks."""
