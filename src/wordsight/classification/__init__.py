"""The classifier: decide, predict, save, load."""
