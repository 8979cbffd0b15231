"""Runs on clusters: submitted, followed, repeated on a schedule."""
