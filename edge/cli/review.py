"""The commands `crossglg-edge review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge.cli.ask import ask_gallery
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import escape, out, print_answer, print_json, say, table
from edge.protocol import (
    ReviewAnswer,
    ReviewAnswered,
    ReviewClear,
    ReviewEntry,
    ReviewList,
    ReviewListAnswer,
    ReviewUndo,
)

review = typer.Typer(help="Look at what was told and what nearly was, and say whether it was right.")

_LabelOption = Annotated[str | None, typer.Option(metavar="LABEL", help="List only what was taken for this action.")]
_UsefulOption = Annotated[
    bool, typer.Option("--useful", help="List what was not answered yet, what teaches most first.")
]
_LimitOption = Annotated[int, typer.Option(min=1, help="List this many clips at most.")]
_IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The beginning of its id, see `review list`.")]


@review.callback(invoke_without_command=True)
def _list_by_default(
    context: typer.Context,
    label: _LabelOption = None,
    useful: _UsefulOption = False,
    limit: _LimitOption = 50,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    if context.invoked_subcommand is None:
        list_clips(label, useful, limit, config, endpoint, as_json)


@review.command("list")
def list_clips(
    label: _LabelOption = None,
    useful: _UsefulOption = False,
    limit: _LimitOption = 50,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the clips, the newest first: score, and why each was told or not. `review` alone does the same."""
    answer = ask_gallery(config, endpoint, ReviewList(label=label, useful=useful, limit=limit))
    if as_json:
        print_json(answer)
    else:
        _print_clips(answer)


@review.command()
def right(
    id: _IdArgument, config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False
) -> None:
    """Say that a clip is the action that it was taken for: it becomes one more example of it."""
    _answer(ReviewAnswer(id=id, answer="right"), config, endpoint, as_json=as_json)


@review.command()
def wrong(
    id: _IdArgument, config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False
) -> None:
    """Say that a clip is not the action that it was taken for: what is more like the clip is not told any more."""
    _answer(ReviewAnswer(id=id, answer="wrong"), config, endpoint, as_json=as_json)


@review.command("is")
def is_label(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The enrolled action that it is.")],
    id: _IdArgument,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which enrolled action a clip is: it becomes one more example of that."""
    _answer(ReviewAnswer(id=id, answer="is", label=label), config, endpoint, as_json=as_json)


@review.command()
def undo(
    id: Annotated[
        str, typer.Argument(metavar="[ID]", help="The beginning of the clip's id, or `last`, the latest answer.")
    ] = "last",
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an answer back."""
    answer = ask_gallery(config, endpoint, ReviewUndo(id=id))
    print_answer(answer, f"no longer answered: clip {answer.id} {answer.answer}", as_json=as_json)


@review.command()
def clear(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Delete all clips for good. Examples and counter-examples that were made of them stay."""
    answer = ask_gallery(config, endpoint, ReviewClear())
    print_answer(answer, f"{answer.deleted} clips deleted for good", as_json=as_json)


def _answer(request: ReviewAnswer, config: Path | None, endpoint: str | None, *, as_json: bool) -> None:
    answer: ReviewAnswered = ask_gallery(config, endpoint, request)
    if as_json:
        print_json(answer)
        return
    say(f"clip {answer.id} [bold]{escape(answer.answer)}[/]; `crossglg-edge review undo` takes it back")
    for line in answer.notes:
        say(f"[dim]{escape(line)}[/]")


def _print_clips(answer: ReviewListAnswer) -> None:
    rows = table("id", "taken for", "score", "kept, UTC", "seconds", "told, or why not", "answer")
    for clip in answer.clips:
        rows.add_row(
            clip.id,
            escape(clip.label),
            f"{clip.score:.2f}",
            escape(clip.created[:19].replace("T", " ")),
            f"{clip.duration_s:.1f}",
            escape(_why(clip)),
            escape(clip.answer),
        )
    out().print(rows)
    if len(answer.clips) < answer.total:
        say(f"[dim]{len(answer.clips)} of {answer.total} clips[/]")


def _why(clip: ReviewEntry) -> str:
    beyond = clip.distance - clip.threshold_distance
    words = {
        "told": "told",
        "threshold": f"too far by {beyond:.2f}",
        "nearer": f"nearer: {clip.nearer}",
        "few": "too few decisions agreed",
        "overlap": "the movement was told before",
        "rules": "held back by the events' rules",
    }
    return words[clip.why]
