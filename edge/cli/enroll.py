"""The command `crossglg-edge enroll`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edge.cli.ask import ask_gallery, daemon
from edge.cli.exit_codes import ExitCode
from edge.cli.options import ConfigOption, JsonOption
from edge.cli.terminal import err, note, print_json, say
from edge.config import Config, read_config
from edge.protocol import Mode, Side


def enroll(
    label: Annotated[str | None, typer.Argument(help="The name of the action.")] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Take RECORDING.mcap or ARCHIVE.npz:CLIP instead of the live stream."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=1, max=20, help="Capture this many examples, each after a countdown.")
    ] = 1,
    add: Annotated[bool, typer.Option("--add", help="Add an example to an action that exists.")] = False,
    replace_: Annotated[bool, typer.Option("--replace", help="Replace the examples of an action that exists.")] = False,
    side: Annotated[
        Side | None,
        typer.Option(
            help="Store the action for this side, mirrored if you show the other side. "
            "`either` stores it as shown and mirrored."
        ),
    ] = None,
    negative: Annotated[
        bool, typer.Option("--negative", help="Ordinary movement that is no action, instead of an action.")
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, max=600, help="With --negative: for so long.")] = 60,
    countdown: Annotated[
        float | None, typer.Option(min=0, max=60, help="Seconds to get ready. Default: the config's countdown_s.")
    ] = None,
    confirm: Annotated[bool, typer.Option("--confirm", help="Show what was captured, and ask before storing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Store an action that is too similar to an enrolled one.")
    ] = False,
    source: Annotated[str | None, typer.Option(help="Capture from this source if several publish.")] = None,
    body: Annotated[int | None, typer.Option(help="Capture this body if several are in view.")] = None,
    no_trim: Annotated[bool, typer.Option("--no-trim", help="With --from: keep the rest at both ends.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not beep, and show no progress.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an action once to enroll it.

    The command waits until you stand still, counts down, captures the action, trims the rest and stores it.
    """
    if add and replace_:
        raise typer.BadParameter("--add and --replace exclude each other")
    if negative == (label is not None):
        raise typer.BadParameter("expected either the action's name or --negative")
    if negative and (add or replace_ or side or force or confirm or no_trim or examples > 1):
        raise typer.BadParameter("--negative goes with --from, --seconds, --countdown, --source and --body")
    if from_ is not None and (confirm or examples > 1):
        raise typer.BadParameter("--confirm and --examples are for the live stream, not for --from")
    settings = read_config(config)
    mode: Mode = "add" if add else "replace" if replace_ else "new"
    wish: dict[str, Any] = {"source": source, "body": body}
    if label is None:
        wish["negative_s"] = seconds
    else:
        wish |= {"label": label, "side": side, "force": force}
    for number in range(examples):
        if label is not None:
            wish["mode"] = "add" if number else mode
        if from_ is not None:
            result = _enroll_from(settings, from_, wish, trim=not no_trim)
        else:
            args = {**wish, "countdown_s": countdown, "commit": not confirm}
            result = enroll_live(settings, args, num_stored=number, quiet=quiet or as_json)
        if as_json:
            print_json(result)
            continue
        from edge.cli.guide import negative_summary, summary

        if label is None:
            say(f"[green]stored[/] {negative_summary(result)}")
        else:
            say(f"[green]enrolled[/] {summary(result)}")


def enroll_live(config: Config, args: dict[str, Any], *, num_stored: int, quiet: bool) -> dict[str, Any]:
    """Lead a person through an enrollment by the daemon; return what was stored, after `num_stored` before it."""
    from edge.cli.guide import confirmed, guide

    with daemon(config) as client:
        try:
            status = guide(client, err(), args, quiet=quiet)
            if status["state"] == "done":
                return dict(status["result"])
            if confirmed(err(), status["preview"]):
                # Whoever has seen what it is similar to, and still wants it, is not asked again.
                return client.ask("enroll.commit", force=True)
            client.ask("enroll.cancel")
            note("not stored")
            raise typer.Exit(ExitCode.BAD_NEWS)
        except (KeyboardInterrupt, EOFError):
            client.ask("enroll.cancel")
            is_stored = client.ask("enroll.status")["state"] == "done"
            before = f"the {num_stored} before it stored" if num_stored else "nothing was stored"
            note("it was stored already: see `gallery undo`" if is_stored else f"cancelled, {before}")
            raise typer.Exit(ExitCode.BROKEN_OFF) from None


def _enroll_from(config: Config, spec: str, wish: dict[str, Any], *, trim: bool) -> dict[str, Any]:
    from edge.enroll import clip_request, negative_request

    source, body = wish["source"], wish["body"]
    if "negative_s" in wish:
        return ask_gallery(config, "enroll.negative", **negative_request(spec, config, source=source, body=body))
    args = {key: wish[key] for key in ("label", "mode", "side", "force")}
    return ask_gallery(config, "enroll.clip", **args, **clip_request(spec, source=source, body=body), trim=trim)
