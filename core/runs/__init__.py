"""Runs: their store, the queue, and the processes that execute them."""
