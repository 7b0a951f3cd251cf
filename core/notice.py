"""The notice that stands on every page and in every exported file."""

DISCLAIMER = "For research and education, not for clinical use"
