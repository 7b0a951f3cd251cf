"""Reading of image files as grey levels."""
