"""The training loop and what it needs: updates, optimizer, checkpoints, backends, speed, curve."""
