"""The saliency report: compute, draw and render."""
