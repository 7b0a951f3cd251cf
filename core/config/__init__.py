"""The sections of a run's specification, a file each; ``core.config.run`` puts them together."""
