"""Words and tables: one file a command group, which asks the daemon or the library and decides nothing itself."""

from edge.cli.app import main

__all__ = ["main"]
