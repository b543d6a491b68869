"""A machine-learning backend for Label Studio: it suggests labels, and learns from annotations."""
