"""Pages that are drawn of artifacts: statistics of records, lineage."""
