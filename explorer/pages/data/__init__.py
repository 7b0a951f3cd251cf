"""Data page: the studies of a data set, its labels, and its check."""
