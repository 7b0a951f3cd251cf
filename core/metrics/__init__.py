"""Metrics and statistics: AUROC, intervals and tests over patients and seeds, calibration."""
