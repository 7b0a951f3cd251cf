"""The machine: memory, precision and distributed processes."""
