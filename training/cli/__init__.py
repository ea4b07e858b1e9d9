"""The offline commands: words and tables, one file a command; what is heavy loads when a command runs."""

from training.cli.describe import describe
from training.cli.embed_texts import embed_texts
from training.cli.evaluate import evaluate
from training.cli.explain import explain
from training.cli.prepare import prepare
from training.cli.reproduce import reproduce
from training.cli.train import train

__all__ = ["describe", "embed_texts", "evaluate", "explain", "prepare", "reproduce", "train"]
