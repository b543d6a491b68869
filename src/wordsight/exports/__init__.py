"""Labels and models for other tools."""
