"""The commands `crossglg-edge negatives`."""

from __future__ import annotations

from typing import Annotated

import typer

from edge.cli.ask import ask_gallery
from edge.cli.gallery import example_table
from edge.cli.guide import lead
from edge.cli.options import (
    BodyOption,
    ConfigOption,
    CountdownOption,
    EndpointOption,
    JsonOption,
    QuietOption,
    SourceOption,
)
from edge.cli.terminal import out, print_answer, print_json, say
from edge.config import read_config
from edge.protocol import EnrollStart, GalleryList, GalleryRemove, StoredNegatives
from streams.errors import GalleryError

negatives = typer.Typer(
    no_args_is_help=True,
    help="Record ordinary movement that is no action, so that thresholds become stricter where it would alarm.",
)


@negatives.command()
def record(
    seconds: Annotated[float, typer.Option(min=1, max=600, help="Record live for this many seconds.")] = 60,
    countdown: CountdownOption = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Take RECORDING.mcap or ARCHIVE.npz:CLIP, not the live stream."),
    ] = None,
    source: SourceOption = None,
    body: BodyOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record ordinary movement. Move as on any day, and do none of your actions."""
    settings = read_config(config, endpoint)
    start = EnrollStart(negative_s=seconds, countdown_s=countdown, source=source, body=body)
    if from_ is None:
        result = lead(settings, start, quiet=quiet or as_json)
    else:
        from edge.enroll import negative_request

        result = ask_gallery(config, endpoint, negative_request(from_, start, settings))
    assert isinstance(result, StoredNegatives)
    if as_json:
        print_json(result)
    else:
        say(
            f"[green]stored[/] [bold]ordinary movement[/]: {result.duration_s:.1f} s in {result.pieces} pieces, "
            f"{result.frames} frames at {result.fps:g} fps, {100 * result.joints:.0f} % of the joints"
        )


@negatives.command("list")
def list_negatives(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """List the pieces of ordinary movement."""
    answer = ask_gallery(config, endpoint, GalleryList())
    if as_json:
        print_json({"gallery_revision": answer.gallery_revision, "negatives": answer.negatives})
    else:
        out().print(example_table("ordinary movement", answer.negatives))


@negatives.command()
def remove(
    id: Annotated[str, typer.Argument(metavar="ID", help="The beginning of its id, see `negatives list`.")],
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a piece of ordinary movement. `gallery undo` brings it back."""
    ids = [negative.id for negative in ask_gallery(config, endpoint, GalleryList()).negatives]
    if not any(known.startswith(id) for known in ids):
        raise GalleryError(
            f"no ordinary movement has an id that begins with {id!r}: there is {', '.join(ids) or 'none'}",
            code="unknown_id",
            hint="`crossglg-edge negatives list` lists the ids.",
        )
    answer = ask_gallery(config, endpoint, GalleryRemove(id=id))
    print_answer(answer, f"removed {id}; `crossglg-edge gallery undo` brings it back", as_json=as_json)
