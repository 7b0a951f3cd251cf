"""Backbones, their checkpoints, and every way to tune them."""
