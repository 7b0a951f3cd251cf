"""The sections of a run's specification, a file each; ``core.spec`` puts them together."""
