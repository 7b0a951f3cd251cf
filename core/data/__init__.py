"""Data sets of chest radiographs: images, labels, splits, cache, checks and transforms."""
