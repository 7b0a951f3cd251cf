"""Baselines that are fitted once instead of trained: logistic regression, neighbours, ridge."""
