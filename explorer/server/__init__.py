"""What the explorer's server answers besides its pages: endpoints and the store's version."""
