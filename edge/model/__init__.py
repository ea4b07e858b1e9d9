"""A bundle and what runs it: windows in, embeddings out, refused where anything does not fit."""

from edge.model.bundle import (
    BUNDLE_VERSION,
    BundleInfo,
    Rates,
    ScoreCurve,
    read_bundle,
    words_file,
)
from edge.model.choose import open_encoder
from edge.model.encoder import BundleEncoder, Encoder, embed_batches, embed_movements
from edge.model.statistics import BaseStatistics, base_statistics, check_features, write_statistics

__all__ = [
    "BUNDLE_VERSION",
    "BaseStatistics",
    "BundleEncoder",
    "BundleInfo",
    "Encoder",
    "Rates",
    "ScoreCurve",
    "base_statistics",
    "check_features",
    "embed_batches",
    "embed_movements",
    "open_encoder",
    "read_bundle",
    "words_file",
    "write_statistics",
]
