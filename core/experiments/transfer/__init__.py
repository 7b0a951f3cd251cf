"""The transfer grid: what pre-training is worth, by method and label fraction."""
