"""The model: image files and texts in, unit vectors out."""
