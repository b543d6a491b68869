"""WordNet: from words to ImageNet classes, and the rules for class names."""
