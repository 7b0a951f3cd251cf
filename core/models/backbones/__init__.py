"""Backbones: cards, construction, weights and the parts of a model."""
