"""A pretrained network, without a model of yours."""
