"""Backbones, their checkpoints, tuning methods and adapter files."""
