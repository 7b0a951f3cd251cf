"""Metrics and statistical tests: AUROC, DeLong, bootstrap, calibration, tests over seeds."""
