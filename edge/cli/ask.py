"""A request to the daemon, or, where none runs, the same command on the gallery file itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from edge.config import Config, read_config
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


def ask_gallery(config_path: Path | None, endpoint: str | None, request: Request[A]) -> A:
    """Ask the daemon, or, where none runs, do it on the gallery file itself, which loads the model.

    Where an endpoint is named, nobody means the gallery of this machine: without a daemon there, raise ControlError.
    """
    config = read_config(config_path, endpoint)
    with daemon(config, timeout_s=0.5) as client:
        try:
            ask(client, Ping())
        except ControlError as error:
            if error.code != "unreachable" or endpoint is not None:
                raise
        else:
            client.timeout_s = 30.0
            return ask(client, request)

    from edge.daemon import carry_out
    from edge.library import open_library

    library = open_library(config)
    with library.gallery:
        return carry_out(library, request)
