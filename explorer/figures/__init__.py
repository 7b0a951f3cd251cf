"""Data to figure; nothing here knows Gradio."""
