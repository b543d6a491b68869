"""What should not be in a data set, and how to split it."""
