"""Runs that outlive the page, the app and the terminal: store, queue, and a process for each."""
