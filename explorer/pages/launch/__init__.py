"""Launch page: the form that describes a run, its cost, and its start."""
