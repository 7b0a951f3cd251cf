"""Saliency: where a model looks, and whether that agrees with what readers marked."""
