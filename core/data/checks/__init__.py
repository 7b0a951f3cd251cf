"""Checks of a whole data set, and their report."""
