"""Artifacts: made whole or not at all, described by manifests, found again by fingerprint."""
