"""One module per data set, the registry, and registered names."""
