"""Evaluation of finished runs: scores, subgroups, comparison of runs and the verdict."""
