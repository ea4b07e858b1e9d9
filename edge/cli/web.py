"""The command `crossglg-edge web`, and the same process beside a daemon for `serve --web`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge.cli.options import ConfigOption, EndpointOption
from edge.cli.terminal import escape, note
from edge.config import read_config
from streams.errors import ConfigError

_FAREWELL_S = 5.0


def web(
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Listen at this address; 0.0.0.0 lets other devices in, after `setup web-access`. "
            "Default: the config's `web.host`.",
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve at this port. Default: the config's `web.port`.")
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Serve the page: the live skeleton, scores, events, enrollment, the gallery, thresholds, review and health.

    It runs beside a daemon, which may come and go. It needs the extra `web`.
    """
    settings = read_config(config, endpoint)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = msgspec.structs.replace(settings, web=msgspec.structs.replace(settings.web, **given))
    # By TLS, Python 3.11's sendfile fails with a bug of its own when a browser leaves in the middle of a file.
    os.environ.setdefault("AIOHTTP_NOSENDFILE", "1")
    with needs_web():
        from edge.web import run_page
    run_page(settings, tell=lambda url: note(f"the page: [bold]{escape(url)}[/]"), with_parent=with_parent)


@contextmanager
def needs_web() -> Iterator[None]:
    """Say which extra to install where what is imported here is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the page needs the package {error.name}",
            code="no_package",
            hint="Install it with `pip install 'crossglg-edge[web]'`.",
        ) from error


@contextmanager
def page_process(config: Path | None) -> Iterator[None]:
    """Serve the page in a process of its own, which ends when this one does, however that ends."""
    command = [sys.executable, "-P", "-c", "from edge.cli.app import main; main()", "web", "--with-parent"]
    command += [] if config is None else ["--config", str(config)]
    # The other end of its stdin closes with this process.
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(timeout=_FAREWELL_S)
            except subprocess.TimeoutExpired:
                process.kill()
