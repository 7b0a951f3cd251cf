"""The classifier of a run: how it is built, loaded and saved."""
