"""Objects cut out of labelled photos, and scenes composed of them, to learn from without boxes."""
