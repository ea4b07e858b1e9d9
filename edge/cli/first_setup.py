"""`crossglg-edge setup` without a further word: three questions, and a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from edge.cli.autostart import SYSTEM_CONFIG, Autostart, is_system_wide
from edge.cli.options import ConfigOption
from edge.cli.terminal import escape, note, say
from edge.config import DEFAULT_PATH, Config, config_toml, read_config
from streams.errors import ConfigError
from streams.files import replace_file

_CAMERAS = {
    "webcam": "a camera that this machine has; run `crossglg-edge setup webcam` once",
    "k4a": "an Azure Kinect or Orbbec Femto",
    "zmq": "skeletons that another program publishes",
    "demo": "a synthetic performer, to try it out",
}
_KINDS = (*_CAMERAS, "replay", "video")


def first_setup(
    context: typer.Context,
    camera: Annotated[
        str | None, typer.Option(metavar="NAME", help="Answer the first question: a camera's name, as in `serve`.")
    ] = None,
    page: Annotated[
        bool | None, typer.Option("--page/--no-page", help="Answer the second one: whether the page is served.")
    ] = None,
    start: Annotated[
        bool | None,
        typer.Option("--start/--no-start", help="Answer the third one: whether systemd starts it with the system."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Change a configuration that is there without asking.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Ask three questions and write the configuration; or set up one thing that is optional.

    The questions are: which camera, whether the page is served, whether the daemon starts with the system. An option
    answers its question. A configuration that is there keeps its other keys, and the file before is kept beside it.
    """
    if context.invoked_subcommand is not None:
        return
    path = config or (SYSTEM_CONFIG if is_system_wide() else DEFAULT_PATH)
    before = read_config(path, environment={}) if path.exists() else Config()
    if camera is None:
        for name, meaning in _CAMERAS.items():
            note(f"[bold]{name}[/]: {meaning}")
        camera = _ask("Which camera", "--camera", default=before.camera)
    if camera.partition(":")[0] not in _KINDS:
        raise ConfigError(
            f"the camera is {camera!r}: expected one of {', '.join(_KINDS)}",
            code="bad_camera",
            hint="`webcam:1` is the second one; `replay:FILE` and `video:FILE` play a file.",
        )
    if page is None:
        page = _confirm("Serve the page for browsers", "--page or --no-page", default=True)
    if start is None:
        start = _confirm("Start the daemon with the system", "--start or --no-start", default=False)
    if _write(path, before, msgspec.structs.replace(before, camera=camera), force=force):
        say(f"{escape(str(path))} is written: camera [bold]{escape(camera)}[/].")
    unit = Autostart(config=path.absolute(), page=page)
    if start:
        shown = unit.on()
        say(f"The daemon runs, and starts with the system. See [bold]{shown}[/].")
    else:
        unit.off()
        command = "crossglg-edge serve" + " --web" * page + (f" --config {config}" if config else "")
        say(f"Start it: [bold]{escape(command)}[/]")


def _write(path: Path, before: Config, after: Config, *, force: bool) -> bool:
    """Write a configuration whole or not at all; return whether the file changed. Raises ConfigError."""
    is_there = path.exists()
    if is_there and before == after:
        return False
    kept = path.with_name(f"{path.name}.before")
    if is_there and not force:
        question = f"{path} is there. Change it, and keep it as {kept.name}"
        if not _confirm(question, "--force", default=False):
            raise ConfigError(
                f"{path} is there and stays as it is: camera {before.camera!r}",
                code="config_exists",
                hint="`--force` changes it, `--config FILE` writes another one.",
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_there:
            replace_file(kept, path.read_bytes())
        replace_file(path, config_toml(after, changed_only=True).encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}", hint="`--config FILE` writes another file."
        ) from error
    return True


def _ask(question: str, flag: str, *, default: str) -> str:
    try:
        answer: str = typer.prompt(question, default=default, err=True)
    except typer.Abort as error:
        raise _unanswered(question, flag) from error
    return answer.strip()


def _confirm(question: str, flag: str, *, default: bool) -> bool:
    try:
        return typer.confirm(f"{question}?", default=default, err=True)
    except typer.Abort as error:
        raise _unanswered(question, flag) from error


def _unanswered(question: str, flag: str) -> ConfigError:
    return ConfigError(
        f"the question was not answered: {question}", code="no_answer", hint=f"Nothing was written. Give {flag}."
    )
