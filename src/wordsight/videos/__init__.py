"""Clips, frame by frame, and frames to learn from."""
