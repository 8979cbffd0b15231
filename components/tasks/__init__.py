"""TODO components/tasks."""
