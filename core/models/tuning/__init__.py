"""Tuning methods: which parameters train, and how an adapter is added and merged."""
