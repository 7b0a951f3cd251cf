"""Experiments of many runs: sweeps, the paper's grid of tasks, and the transfer grid."""
