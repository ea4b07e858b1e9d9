"""Offline: data, texts, the network, its training and its evaluation; no device imports it."""
