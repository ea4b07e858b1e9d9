"""The terminal: lines, tables and progress. rich is imported once one of them is printed."""

from __future__ import annotations

import functools
import json
import logging
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


@functools.cache
def out() -> Console:
    """Return the console of stdout."""
    from rich.console import Console

    return Console()


@functools.cache
def err() -> Console:
    """Return the console of stderr."""
    from rich.console import Console

    return Console(stderr=True)


def escape(text: str) -> str:
    """Return text in which rich finds no markup, and a terminal no command: it may come from anybody."""
    from rich.markup import escape

    shown = "".join(c if c == "\n" or unicodedata.category(c) != "Cc" else repr(c)[1:-1] for c in text)
    return escape(shown)


def say(markup: str) -> None:
    """Print a line of rich markup, the answer."""
    print_line(out(), markup)


def note(markup: str) -> None:
    """Print a line of rich markup to stderr, beside the answer."""
    print_line(err(), markup)


def print_line(console: Console, markup: str) -> None:
    """Print a line: between words a terminal breaks it, and in a pipe it stays one. Only our own markup has colors."""
    console.print(markup, soft_wrap=not console.is_terminal, highlight=False)


def print_json(value: object) -> None:
    """Print one line of JSON; an answer has the keys that it has on the wire."""
    sys.stdout.write(json.dumps(value, default=msgspec.to_builtins) + "\n")
    sys.stdout.flush()


def print_answer(answer: object, text: str, *, as_json: bool) -> None:
    """Print an answer as JSON, or else its text, which holds no markup."""
    if as_json:
        print_json(answer)
    else:
        say(escape(text))


def table(*columns: str, **settings: Any) -> Table:
    """Return an empty table; what is longer than its column, such as a path, goes on in the next line."""
    from rich.table import Column, Table

    return Table(*(Column(column, overflow="fold") for column in columns), **settings)


def clock_progress() -> Progress:
    """Return a spinner with a clock, on stderr; nothing where that is no terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    return Progress(*columns, console=err(), transient=True, disable=not err().is_terminal)


def log_handler() -> logging.Handler:
    """Return what writes a log to stderr, in colors where that is a terminal."""
    handler: logging.Handler = logging.StreamHandler()
    line = "%(asctime)s %(levelname)s %(message)s"
    if err().is_terminal:
        from rich.logging import RichHandler

        handler, line = RichHandler(console=err(), show_path=False), "%(message)s"
    handler.setFormatter(logging.Formatter(line))
    return handler
