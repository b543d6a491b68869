"""Figures of merit from arrays."""
