"""The paper's grid of transfer tasks: runs, results, claims, tables and figure."""
