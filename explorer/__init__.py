"""The explorer in the browser: pages read inputs, call the core and show its results."""
