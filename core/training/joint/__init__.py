"""Several LoRA runs on one frozen backbone, in one process and in the same forward passes."""
