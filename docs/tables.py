"""Markdown tables, and text that may stand in their cells."""

from __future__ import annotations

from pathlib import Path


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """Return a text for a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def words(text: str) -> str:
    """Return a text for a cell, with nothing in it that Markdown would take for its own."""
    return cell(text).replace("[", "\\[").replace("<", "&lt;")


def without_home(text: str) -> str:
    """Return a text in which paths of whoever writes the pages begin with ~."""
    return text.replace(str(Path.home()), "~")
