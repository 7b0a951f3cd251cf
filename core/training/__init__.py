"""Training of a run: setup, loop, validation, checkpoints, result and trackers."""
