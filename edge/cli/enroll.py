"""The command `crossglg-edge enroll`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.cli.ask import ask_gallery
from edge.cli.guide import lead, summary
from edge.cli.options import (
    BodyOption,
    ConfigOption,
    CountdownOption,
    EndpointOption,
    JsonOption,
    QuietOption,
    SourceOption,
)
from edge.cli.terminal import escape, note, print_json, say
from edge.config import read_config
from edge.protocol import EnrollStart, EnrollWords, Mode, StoredExample
from streams.errors import CrossGLGError


def _moved(value: object) -> None:
    if value:
        raise CrossGLGError("`enroll --negative` is now `crossglg-edge negatives record`", code="moved")


def enroll(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The name of the action.")],
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Take RECORDING.mcap or ARCHIVE.npz:CLIP, not the live stream."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, max=20, help="Capture this many examples, each after a countdown.")
    ] = 1,
    add: Annotated[bool, typer.Option("--add", help="Add an example to an action that exists.")] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Replace the examples of an action that exists.")] = False,
    side: Annotated[
        Literal["left", "right", "either"] | None,
        typer.Option(
            help="Store the action for this side, mirrored if you show the other side. "
            "`either` stores it as shown and mirrored."
        ),
    ] = None,
    countdown: CountdownOption = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Show what was captured, and ask before storing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Store an action that is too similar to an enrolled one.")
    ] = False,
    words: Annotated[
        bool,
        typer.Option(
            "--words/--no-words", help="Let the label's words count beside the example, where `setup words` was run."
        ),
    ] = True,
    from_words: Annotated[
        bool, typer.Option("--from-words", help="Enroll by words alone, roughly. The first example replaces them.")
    ] = False,
    describe: Annotated[
        str, typer.Option(metavar="TEXT", help="Say in English what the body does, beside the label's own words.")
    ] = "",
    source: SourceOption = None,
    body: BodyOption = None,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="With --from: keep the rest at both ends.")] = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
    negative: Annotated[bool, typer.Option("--negative", hidden=True, is_eager=True, callback=_moved)] = False,
    seconds: Annotated[str | None, typer.Option(hidden=True, is_eager=True, callback=_moved)] = None,
) -> None:
    """Show an action once to enroll it.

    The command waits until you stand still, counts down, captures the action, trims the rest and stores it.
    """
    if add and replace_:
        raise typer.BadParameter("--add and --replace exclude each other")
    if from_ is not None and (confirm or examples > 1):
        raise typer.BadParameter("--confirm and --examples are for the live stream, not for --from")
    if describe and not words:
        raise typer.BadParameter("--describe and --no-words exclude each other")
    if from_words:
        if from_ is not None or confirm or examples > 1 or add or side or not words:
            raise typer.BadParameter(
                "--from-words takes no example: of the other options --describe, --replace, --force"
            )
        _by_words(config, endpoint, label, describe, replace=replace_, force=force, as_json=as_json)
        return
    settings = read_config(config, endpoint)
    mode: Mode = "add" if add else "replace" if replace_ else "new"
    for number in range(examples):
        start = EnrollStart(
            label=label, mode="add" if number else mode, side=side, force=force, source=source, body=body,
            countdown_s=countdown, commit=not confirm, words=words, description=describe,
        )  # fmt: skip
        if from_ is None:
            result = lead(settings, start, num_stored=number, quiet=quiet or as_json)
        else:
            from edge.enroll import clip_request

            result = ask_gallery(config, endpoint, clip_request(from_, start, trim=not no_trim))
        assert isinstance(result, StoredExample)
        if as_json:
            print_json(result)
        else:
            say(f"[green]enrolled[/] {summary(result)}")


def _by_words(
    config: Path | None,
    endpoint: str | None,
    label: str,
    description: str,
    *,
    replace: bool,
    force: bool,
    as_json: bool,
) -> None:
    mode: Literal["new", "replace"] = "replace" if replace else "new"
    request = EnrollWords(label=label, description=description, mode=mode, force=force)
    stored = ask_gallery(config, endpoint, request)
    if as_json:
        print_json(stored)
        return
    say(f"[green]enrolled[/] [bold]{escape(stored.label)}[/] by words alone, about {stored.by_words.duration_s:.1f} s")
    note("[yellow]This is rough: it will miss most performances. Show it once, and the example takes its place.[/]")
