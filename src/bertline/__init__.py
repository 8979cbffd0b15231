"""bertline: from a Wikipedia dump and a shelf of books to a pretrained, evaluated and exported BERT."""
