"""The command line `crossglg-edge`: its table of commands, its errors and its exit codes."""

from __future__ import annotations

import signal
import sys
from functools import cache
from importlib.metadata import distribution
from typing import Annotated

import typer

from edge.cli.bench import bench
from edge.cli.bridge import bridge
from edge.cli.config import config
from edge.cli.doctor import doctor
from edge.cli.enroll import enroll
from edge.cli.exit_codes import ExitCode
from edge.cli.gallery import gallery
from edge.cli.negatives import negatives
from edge.cli.publish import publish
from edge.cli.record import record
from edge.cli.review import review
from edge.cli.serve import serve
from edge.cli.setup import setup
from edge.cli.status import status
from edge.cli.stop import stop
from edge.cli.terminal import escape, note
from edge.cli.threshold import threshold
from edge.cli.watch import watch
from edge.cli.web import web
from edge.protocol import VERSION
from streams.clients import terminate
from streams.errors import ControlError, CrossGLGError

app = typer.Typer(
    name="crossglg-edge",
    help="Show it an action once: live one-shot recognition of skeleton actions.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, web, enroll, watch, status, stop, record, publish, config, doctor, bench):
    app.command()(command)
app.add_typer(bridge, name="bridge")
app.add_typer(gallery, name="gallery")
app.add_typer(negatives, name="negatives")
app.add_typer(review, name="review")
app.add_typer(threshold, name="threshold")
app.add_typer(setup, name="setup")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(VERSION)
        raise typer.Exit


def main() -> None:
    """Run the command line; errors become one message, a hint and an exit code."""
    add_offline_commands()
    # A closed terminal or a `kill` is to end a recording or an enrollment as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        app()
    except CrossGLGError as error:
        note(f"[bold red]error[/] [dim]({escape(error.code)})[/] {escape(error.message)}")
        if error.hint:
            note(f"[yellow]{escape(error.hint)}[/]")
        is_lost = isinstance(error, ControlError) and error.code == "unreachable"
        sys.exit(ExitCode.UNREACHABLE if is_lost else ExitCode.REFUSED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    finally:
        terminate()


@cache
def add_offline_commands() -> None:
    """Add the commands that live above this package, once: evaluate, train, export."""
    for entry in distribution("crossglg-edge").entry_points.select(group="crossglg_edge.commands"):
        loaded = entry.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=entry.name)
        else:
            app.command(entry.name)(loaded)
