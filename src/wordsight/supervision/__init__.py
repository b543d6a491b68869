"""Where the classifier for some words comes from: labelled images, a model, the backbone's own
vocabulary, a text–image model, or images gathered for the words.
"""
