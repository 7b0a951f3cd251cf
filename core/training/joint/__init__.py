"""Joint training: several LoRA runs on one frozen backbone, in the same forward passes."""
