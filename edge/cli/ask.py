"""A request to the daemon, or, where none runs, the same command on the gallery file itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from edge.config import Config
from edge.protocol import Ping, Request, ask
from streams.clients import ControlClient
from streams.errors import ControlError

A = TypeVar("A")


@contextmanager
def daemon(config: Config, timeout_s: float = 5.0) -> Iterator[ControlClient]:
    """Connect to the daemon."""
    client = ControlClient(config.sockets.control, timeout_s=timeout_s)
    try:
        yield client
    finally:
        client.close()


def ask_gallery(config: Config, request: Request[A]) -> A:
    """Ask the daemon, or, where none runs, do it on the gallery file itself, which loads the model."""
    with daemon(config, timeout_s=0.5) as client:
        try:
            ask(client, Ping())
        except ControlError as error:
            if error.code != "unreachable":
                raise
        else:
            client.timeout_s = 30.0
            return ask(client, request)

    from edge.daemon import carry_out
    from edge.library import open_library

    library = open_library(config)
    with library.gallery:
        return carry_out(library, request)
