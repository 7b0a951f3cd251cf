"""The study's grid of tasks: what is to be run, carrying it out, and what it says of the claims."""
