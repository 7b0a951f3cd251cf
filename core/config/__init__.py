"""The specification of a run: one module per section; ``core.config.run`` combines them."""
