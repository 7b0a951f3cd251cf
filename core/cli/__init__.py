"""The command line: one module per group of verbs, put together in ``core.cli.app``."""
