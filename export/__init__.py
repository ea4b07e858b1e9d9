"""From a finished training run to a model bundle, and from a bundle to engines, each checked against torch."""
