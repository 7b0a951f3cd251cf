"""What a run needs, computed before it starts: time, memory and validation work."""
