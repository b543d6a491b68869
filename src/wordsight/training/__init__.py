"""Recipes, fine-tuning and box heads."""
