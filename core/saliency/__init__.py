"""Where a model looks, and whether it looks at the right place."""
