"""Sliding windows over many photos."""
