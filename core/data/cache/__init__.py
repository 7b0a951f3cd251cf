"""Decoded images and activations on disk."""
