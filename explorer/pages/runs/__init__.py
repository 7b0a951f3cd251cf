"""The Runs page: the table of runs, one run in detail, its test scores and its export."""
