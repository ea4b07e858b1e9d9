"""From a finished training run to a model bundle, and from a bundle to engines, each checked against torch."""

# Its modules, each imported when it is needed: most of them load torch.
__all__ = ["bundle", "cli", "engines", "fit", "fold", "frozen", "onnx", "rates", "recipe"]
