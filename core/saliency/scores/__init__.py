"""Scores of saliency maps, with and without marked regions."""
