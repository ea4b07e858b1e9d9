"""The commands `crossglg-edge threshold`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from edge.cli.ask import ask_gallery
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import clock_progress, escape, out, print_json, say, table
from edge.protocol import ThresholdAnswer, ThresholdCalibrate, ThresholdGet, ThresholdReset, ThresholdSet, ThresholdUndo
from streams.errors import ControlError

_ORIGINS = {"bundle": "the model", "hand": "hand", "rates": "the model's rates", "negatives": "your movement"}

# What the columns mean: each new action has the same numbers, and they say nothing of it yet.
_RATES = (
    "threshold: the largest distance of a match, so less is stricter; false alarms/h and missed: what the model's "
    "rates expect of it, from one example each of other actions and people. Your own action may do better or worse"
)

threshold = typer.Typer(no_args_is_help=True, help="Set how near a match must be, by false alarms per hour or by hand.")


@threshold.command()
def calibrate(
    false_alarms_per_hour: Annotated[
        float, typer.Option(metavar="NUMBER", help="False alarms per hour of all actions together.")
    ],
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find a threshold for each action by false alarms per hour, and report how many performances it will miss.

    The false alarms are those of the rates that ship with the model, and of your own ordinary movement. Actions
    that you enroll later get their thresholds in the same way.
    """
    answer = ask_gallery(config, endpoint, ThresholdCalibrate(false_alarms_per_hour=false_alarms_per_hour))
    if answer.state == "calibrating":
        with clock_progress() as progress:
            progress.add_task("looking through your ordinary movement")
            while answer.state == "calibrating":
                time.sleep(0.1)
                answer = ask_gallery(config, endpoint, ThresholdGet())
    if answer.state:
        raise ControlError(f"the calibration {answer.state}", code="not_calibrated")
    _print_thresholds(answer, as_json=as_json)


@threshold.command("get")
def get_thresholds(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Show the threshold of each action, its origin and its cost."""
    _print_thresholds(ask_gallery(config, endpoint, ThresholdGet()), as_json=as_json)


@threshold.command("set")
def set_threshold(
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The action.")],
    distance: Annotated[
        float, typer.Argument(metavar="DISTANCE", help="The largest distance at which a match begins an event.")
    ],
    force: Annotated[
        bool,
        typer.Option("--force", help="Set it even if the model's rates expect more than 20 false alarms per hour."),
    ] = False,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the threshold of one action by hand.

    The command refuses a distance beyond the default at which the model's rates expect more than 20 false alarms
    per hour.
    """
    answer = ask_gallery(config, endpoint, ThresholdSet(label=label, distance=distance, force=force))
    _print_thresholds(answer, as_json=as_json)


@threshold.command()
def reset(
    label: Annotated[
        str | None, typer.Argument(metavar="LABEL", help="Forget what you set by hand for it. Default: everything.")
    ] = None,
    config: ConfigOption = None,
    endpoint: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go back to the calibrated threshold of an action, or, without an action, to the model's own thresholds."""
    _print_thresholds(ask_gallery(config, endpoint, ThresholdReset(label=label)), as_json=as_json)


@threshold.command()
def undo(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Take back the latest set, reset or calibrate. Run it again to take back the one before it.

    `gallery undo` changes no threshold, and `threshold undo` no example.
    """
    _print_thresholds(ask_gallery(config, endpoint, ThresholdUndo()), as_json=as_json)


def _print_thresholds(answer: ThresholdAnswer, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    per_hour = answer.false_alarms_per_hour
    asked = "" if per_hour is None else f"at most {per_hour:g} false alarms an hour, all actions together"
    rows = table("action", "threshold", "from", "false alarms/h", "missed", "your own movement", title=asked)
    for label in answer.labels:
        rows.add_row(
            escape(label.label),
            f"{label.distance:.3f}",
            _ORIGINS[label.origin],
            f"{label.false_alarms_per_hour:.2f}" if label.false_alarms_per_hour is not None else "",
            f"{100 * label.missed:.0f} %" if label.missed is not None else "",
            label.negatives,
        )
    out().print(rows)
    if any(label.missed is not None for label in answer.labels):
        say(f"[dim]{_RATES}[/]")
    for label in answer.labels:
        if label.warning:
            say(f"[yellow][bold]{escape(label.label)}[/]: {escape(label.warning)}[/]")
    if answer.negative_hours:
        say(f"your ordinary movement speaks for {60 * answer.negative_hours:.1f} minutes: it can only forbid")
    if answer.unused:
        say(escape(f"thresholds of actions that are not enrolled: {', '.join(answer.unused)}"))
    for note in answer.notes:
        say(f"[dim]{escape(note)}[/]")
