"""The commands `crossglg-edge gallery`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.ask import ask_gallery
from edge.cli.exit_codes import ExitCode
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import escape, out, print_answer, print_json, say, table
from edge.config import read_config
from edge.protocol import (
    ExampleAbout,
    GalleryExport,
    GalleryGet,
    GalleryHistory,
    GalleryImport,
    GalleryList,
    GalleryRemove,
    GalleryRename,
    GalleryRevert,
    GalleryUndo,
    GalleryVacuum,
    LabelDetails,
    LabelExamples,
    Mode,
)
from streams.errors import GalleryError

if TYPE_CHECKING:
    from rich.table import Table

    from edge.gallery import Damaged, Mended

gallery = typer.Typer(no_args_is_help=True, help="List, show, change, move and keep safe the enrolled actions.")


@gallery.command("list")
def list_actions(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """List the enrolled actions."""
    answer = ask_gallery(config, endpoint, GalleryList())
    if as_json:
        print_json(answer)
        return
    rows = table("action", "examples", "seconds", "from", title=f"revision {answer.gallery_revision}")
    for label in answer.labels:
        examples = label.examples
        origins = sorted({example.origin for example in examples}) or ["words alone"]
        rows.add_row(escape(label.label), str(len(examples)), _seconds(examples), escape(", ".join(origins)))
    out().print(rows)
    for label in answer.labels:
        _tell_words(label)
    if answer.negatives:
        out().print(example_table("ordinary movement", answer.negatives))


@gallery.command()
def show(
    label: Annotated[
        str | None, typer.Argument(metavar="LABEL", help="The action to show. Default: all actions.")
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the examples, how far apart the actions are, and which will be confused."""
    answer = ask_gallery(config, endpoint, GalleryGet(label=label))
    if as_json:
        print_json(answer)
    elif isinstance(answer, LabelDetails):
        _print_action(answer)
    else:
        _print_actions(answer.labels)


def _print_actions(actions: Sequence[LabelDetails]) -> None:
    rows = table("action", "seconds", "moves", "most like", "distance", "margin")
    for action in actions:
        nearest = action.nearest[0] if action.nearest else None
        rows.add_row(
            escape(action.label),
            _seconds(action.examples),
            _moves(action),
            escape(nearest.label) if nearest else "",
            f"{nearest.distance:.2f}" if nearest else "",
            f"{action.margin:.2f}",
        )
    out().print(rows)
    for action in actions:
        _tell_words(action)
        _tell_confused(action)


def _print_action(action: LabelDetails) -> None:
    if action.by_words is None:
        out().print(example_table(action.label, action.examples))
    if action.counters:
        out().print(example_table(f"taken for {action.label}, and not it", action.counters))
    rows = table("most like it", "distance", "score")
    for other in action.nearest:
        rows.add_row(escape(other.label), f"{other.distance:.2f}", f"{other.score:.2f}")
    out().print(rows)
    apart = "" if action.apart is None else f"; its own examples are {action.apart:.2f} apart"
    if action.by_words is None:
        mixed = sum(example.words == "mixed" for example in action.examples)
        words = f"; its words count beside {mixed} of {len(action.examples)} examples" if mixed else ""
        say(f"moves {_moves(action)}; margin to the others {action.margin:.2f}{apart}{words}")
    _tell_words(action)
    _tell_confused(action)


def _tell_words(label: LabelExamples | LabelDetails) -> None:
    if (words := label.by_words) is None:
        return
    said = f" ({escape(words.description)})" if words.description else ""
    use = f"about {words.duration_s:.1f} s, rough" if words.in_use else "not in use: no text encoder is set up"
    say(f"[yellow][bold]{escape(label.label)}[/] is known by words alone{said}: {use}. Show it once to replace them[/]")


def _tell_confused(action: LabelDetails) -> None:
    if action.confused_with:
        others = escape(", ".join(action.confused_with))
        say(f"[yellow][bold]{escape(action.label)}[/] will be confused with [bold]{others}[/][/]")


def _seconds(examples: Sequence[ExampleAbout]) -> str:
    return ", ".join(f"{example.duration_s:.1f}" for example in examples)


def _moves(action: LabelDetails) -> str:
    return ", ".join(dict.fromkeys(joint for example in action.examples for joint in example.moved))


def example_table(title: str, examples: Sequence[ExampleAbout]) -> Table:
    """Return a table of examples or of ordinary movement."""
    rows = table("id", "seconds", "frames", "joints", "from", "enrolled", title=escape(title))
    for example in examples:
        rows.add_row(
            example.id[:8], f"{example.duration_s:.2f}", str(example.frames),
            f"{100 * example.joints:.0f} %", escape(example.origin), escape(example.created),
        )  # fmt: skip
    return rows


@gallery.command()
def remove(
    label: Annotated[
        str | None, typer.Argument(metavar="LABEL", help="The action to remove, with all its examples.")
    ] = None,
    id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Remove the one example whose id begins like this. `gallery show` has ids."),
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove an action or one example. `gallery undo` brings it back."""
    if (label is None) == (id is None):
        raise typer.BadParameter("expected either an action or --id")
    answer = ask_gallery(config, endpoint, GalleryRemove(label=label, id=id))
    print_answer(answer, f"removed {label or id}; `crossglg-edge gallery undo` brings it back", as_json=as_json)


@gallery.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The action's name now.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rename an action."""
    answer = ask_gallery(config, endpoint, GalleryRename(old=old, new=new))
    print_answer(answer, f"{old} is now {new}", as_json=as_json)


@gallery.command()
def undo(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Undo the latest change. Run it again to undo the change before it."""
    answer = ask_gallery(config, endpoint, GalleryUndo())
    print_answer(answer, f"undone: {answer.undone}", as_json=as_json)


@gallery.command()
def history(
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, help="List this many changes.")] = 20,
) -> None:
    """List the latest changes."""
    answer = ask_gallery(config, endpoint, GalleryHistory(limit=limit))
    if as_json:
        print_json(answer)
        return
    rows = table("revision", "when", "what", "action")
    for change in answer.history:
        rows.add_row(str(change.revision), *map(escape, (change.created, change.action, change.label)))
    out().print(rows)


@gallery.command()
def revert(
    revision: Annotated[
        int, typer.Argument(metavar="REVISION", help="A revision that `gallery history` lists; 0 is the empty gallery.")
    ],
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the actions of an earlier revision. This is a new change that can be undone."""
    answer = ask_gallery(config, endpoint, GalleryRevert(revision=revision))
    text = f"now as in revision {revision}: {', '.join(answer.labels) or 'nothing enrolled'}"
    print_answer(answer, text, as_json=as_json)


@gallery.command()
def vacuum(
    keep: Annotated[
        int, typer.Option(min=0, help="Keep this many of the latest changes, so that you can undo them.")
    ] = 0,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete removed examples for good. Until then the file keeps them, so that you can undo."""
    answer = ask_gallery(config, endpoint, GalleryVacuum(keep_revisions=keep))
    print_answer(answer, f"{answer.deleted} examples deleted for good", as_json=as_json)


@gallery.command("export")
def export_actions(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The .npz file to write.")],
    label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Export only this action. Repeat it for more.")
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the actions to one portable file."""
    answer = ask_gallery(config, endpoint, GalleryExport(path=str(path.absolute()), labels=label))
    negatives = f" and {answer.negatives} of ordinary movement" if answer.negatives else ""
    print_answer(answer, f"{answer.examples} examples{negatives} in {path}", as_json=as_json)


@gallery.command("import")
def import_actions(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The .npz file to read.")],
    add: Annotated[bool, typer.Option("--add", help="Add to actions that exist.")] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Replace actions that exist.")] = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Read the actions of a file that `gallery export` wrote."""
    if add and replace_:
        raise typer.BadParameter("--add and --replace exclude each other")
    mode: Mode = "add" if add else "replace" if replace_ else "new"
    answer = ask_gallery(config, endpoint, GalleryImport(path=str(path.absolute()), mode=mode))
    negatives = f"; {answer.negatives} of ordinary movement are here now" if answer.negatives else ""
    print_answer(answer, f"imported: {', '.join(answer.labels) or 'no action'}{negatives}", as_json=as_json)


@gallery.command()
def check(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The gallery's file. Default: that of the config.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for damage, page by page and example by example. Exits with 1 where there is some."""
    from edge.gallery import check_gallery

    condition = check_gallery(path or _file(config))
    if as_json:
        print_json({**asdict(condition), "path": str(condition.path), "is_sound": condition.is_sound})
    else:
        for problem in condition.problems:
            say(f"[red]{escape(problem)}[/]")
        _tell_damaged(condition.damaged, "is damaged")
        remedy = "[red]damaged[/]: see `crossglg-edge gallery restore` and `gallery repair`"
        sound = "sound" if condition.is_sound else remedy
        say(f"{escape(str(condition.path))}, revision {condition.revision}: {condition.num_examples} examples; {sound}")
    if not condition.is_sound:
        raise typer.Exit(ExitCode.BAD_NEWS)


@gallery.command()
def backup(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The file to write. Default: by the date, in `backups`.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Copy the gallery, also while a daemon uses it. The daemon does so once a day."""
    from edge.gallery import back_up, back_up_now

    settings = read_config(config)
    source = _file(config)
    made = back_up(source, path) if path else back_up_now(source, max(1, settings.gallery.backups))
    say(f"{escape(str(made))}; `crossglg-edge gallery restore` brings it back")


@gallery.command("restore")
def restore_backup(
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The backup. Default: the last one by the date.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show what a backup shows, also while a daemon runs. `gallery undo` takes it back."""
    from edge.gallery import backups_of, restore
    from edge.library import created_now

    source = path or next(iter(backups_of(_file(config))[-1:]), None)
    if source is None:
        raise GalleryError(
            f"{_file(config)} has no backup beside it",
            code="not_found",
            hint="Name one: crossglg-edge gallery restore FILE. The daemon makes one a day, `gallery backup` at once.",
        )
    mended = restore(_file(config), source, created=created_now())
    _tell_mended(mended, f"restored from {source}", "in the backup is damaged, and left out")


@gallery.command("repair")
def repair_file(config: ConfigOption = None) -> None:
    """Take out what is damaged, and keep the file as it was beside it."""
    from edge.gallery import repair
    from edge.library import created_now

    mended = repair(_file(config), created=created_now())
    if mended.kept is None:
        say(f"nothing to repair: revision {mended.revision}, {mended.num_examples} examples")
        return
    _tell_mended(mended, "repaired", "is lost, unless a backup has it")


def _file(config: Path | None) -> Path:
    return Path(read_config(config).gallery.path).expanduser()


def _tell_mended(mended: Mended, what: str, of_lost: str) -> None:
    _tell_damaged(mended.left_out, of_lost)
    say(escape(f"{what}: revision {mended.revision}, {mended.num_examples} examples"))
    if mended.kept is not None:
        say(escape(f"the file as it was: {mended.kept}"))


def _tell_damaged(damaged: Sequence[Damaged], what: str) -> None:
    for example in damaged:
        of = f"of {example.label!r}" if example.label else "of ordinary movement"
        say(f"[yellow]{escape(f'example {example.id[:8]} {of} {what}: {example.problem}')}[/]")
