"""Saliency methods: from a model and its input to coarse maps."""
