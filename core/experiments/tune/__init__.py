"""Tuning: each method at its own best settings, chosen on validation data with equal budgets."""
