"""Box heads: augmentation, fitting, and the recipe that adds one to a model."""
