"""Data sets of chest radiographs: read, checked, split, cached, transformed."""
