"""The Paper page: the tasks of the study that the explorer repeats, and its claims."""
