"""What a task is given on a cluster, and how each cluster is told."""
