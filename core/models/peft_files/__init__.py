"""Adapter folders in peft's format: reading, attaching and writing."""
