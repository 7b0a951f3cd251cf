"""Self-supervised pre-training of small backbones on radiographs and reports."""
