"""Groups of verbs of the command line, and what all verbs share; ``core.__main__`` adds them."""
