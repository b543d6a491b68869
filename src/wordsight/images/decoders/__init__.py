"""Kinds of image files that need more than Pillow by itself."""
