"""Offline: data, texts, the network, its training and its evaluation; no device imports it."""

# Its rooms, each imported when it is needed: those that train load torch.
__all__ = ["cli", "data", "evaluate", "explain", "model", "run", "texts"]
