"""What `crossglg-edge evaluate stream` prints: tables for people, or what scripts read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.evaluate.live.answers import AnswersReport, Gain
from training.evaluate.live.evaluate import Scores, StreamReport
from training.evaluate.live.recordings import Oracle, RecordingReport
from training.evaluate.live.repetitions import CountReport, RepetitionsReport
from training.evaluate.live.score import StreamScore
from training.evaluate.live.travel import Travel

_METHODS = {"ours": "ours", "dtw": "DTW", "dtw_tuned": "DTW tuned"}


def stream_json(report: StreamReport) -> dict[str, Any]:
    """Return the figures over all archives with those of DTW; then the same by archive and by slice.

    "dtw": with a threshold calibrated as ours; "dtw_tuned": tuned on these archives.
    Null: there is no such figure, as a delay where nothing was recognized.
    """

    def row(scores: Scores) -> dict[str, Any]:
        return {**_as_dict(scores["ours"]), **{name: _as_dict(scores[name]) for name in ("dtw", "dtw_tuned")}}

    return {
        **row(report.total),
        "archives": {name: row(scores) for name, scores in report.archives.items()},
        "slices": {name: row(scores) for name, scores in report.slices.items()},
        "notes": list(report.notes),
    }


def recording_json(report: RecordingReport) -> dict[str, Any]:
    """Return the figures over all recordings with those of DTW and of the oracle; then the same by archive."""

    def row(scores: Scores, oracle: Oracle | None, travel: Travel | None) -> dict[str, Any]:
        return {
            **_as_dict(scores["ours"]),
            "threshold": None if travel is None else asdict(travel),
            "dtw": _as_dict(scores["dtw"]) if "dtw" in scores else None,
            "oracle_windows": None if oracle is None else asdict(oracle),
        }

    return {
        **row(report.total, report.oracle, None),
        "archives": {
            name: row(scores, report.oracles.get(name), report.travels.get(name))
            for name, scores in report.archives.items()
        },
        "notes": list(report.notes),
    }


def print_recordings(report: RecordingReport, encoder: str, *, num_examples: int = 1) -> None:
    """Print the tables, what the windows cut at the truth give, and what the figures do not say."""
    enrolled = "one example a class by another person" if num_examples == 1 else f"{num_examples} examples a class"
    title = f"Events in continuous recordings, {enrolled}, with 95 % intervals"
    _print_scores(title, [*report.archives.items(), ("all", report.total)], encoder)
    console = Console()
    for method, score in report.total.items():
        console.print(f"{_METHODS[method]}: {_in_words(score)}", soft_wrap=not console.is_terminal)
    named = [*report.oracles.items(), *([("all", report.oracle)] if report.oracle is not None else [])]
    for name, oracle in named:
        console.print(
            f"{escape(name)}, windows cut at the truth: {oracle.closed_set:.1%} nearest to the right label; F1 "
            f"{oracle.f1:.2f} with the default threshold, {oracle.best_f1:.2f} with {oracle.best_factor:.2f} times it",
            soft_wrap=not console.is_terminal,
        )
    for name, travel in report.travels.items():
        console.print(f"{escape(name)}, live: {_travel_in_words(travel)}", soft_wrap=not console.is_terminal)
    for note in report.notes:
        console.print(escape(note), soft_wrap=not console.is_terminal)


def answers_json(report: AnswersReport) -> dict[str, Any]:
    """Return the figures of second halves by the number of answers, over all and by archive; `gain` over the first."""

    def rows(scores: Mapping[int, StreamScore], gains: Mapping[int, Gain]) -> dict[str, Any]:
        return {
            str(number): {**_as_dict(score), "gain": _as_gain(gains[number]) if number in gains else None}
            for number, score in scores.items()
        }

    return {
        "answers": rows(report.total, report.gains),
        "archives": {name: rows(s, report.archive_gains[name]) for name, s in report.archives.items()},
        "said": report.said,
        "people": report.num_people,
        "notes": list(report.notes),
    }


def _as_gain(gain: Gain) -> dict[str, Any]:
    return {"f1": _finite(gain.f1), "ci95": _finite(gain.ci95)}


def print_answers(report: AnswersReport, encoder: str) -> None:
    """Print the table of second halves, and what was answered."""
    table = Table(
        title="Second halves of each person's recordings, after answers to the first, with 95 % intervals",
        caption=f"encoder: {escape(encoder)}; {report.num_people} people",
    )
    for column in ("streams", "answers", "F1", "gain", "precision", "recall"):
        table.add_column(column, justify="left" if column == "streams" else "right")
    rows = [(name, report.archives[name], report.archive_gains[name]) for name in report.archives]
    for name, scores, gains in [*rows, ("all", report.total, report.gains)]:
        for number, score in scores.items():
            gain = gains.get(number)
            table.add_row(
                escape(name) if number == next(iter(scores)) else "",
                str(number),
                f"{_number(score.f1, 2)} ({_interval(score, 'f1', 2)})",
                f"{gain.f1:+.2f} ({gain.ci95[0]:+.2f} to {gain.ci95[1]:+.2f})" if gain is not None else "",
                _number(score.precision, 2),
                _number(score.recall, 2),
            )
        table.add_section()
    console = Console()
    console.print(table)
    said = ", ".join(f"{count} {verdict}" for verdict, count in report.said.items()) or "none"
    console.print(f"answers at {max(report.total)} a person: {said}", soft_wrap=not console.is_terminal)
    for note in report.notes:
        console.print(escape(note), soft_wrap=not console.is_terminal)


_COUNTERS = {"ours": "ours", "peaks": "peak counter, told the span", "events": "events of the label"}


def repetitions_json(report: RepetitionsReport) -> dict[str, Any]:
    """Return the scores of counts over all sets, then of each archive."""

    def figures(of: CountReport) -> dict[str, Any]:
        return {key: value if isinstance(value, dict) else _finite(value) for key, value in asdict(of).items()}

    return {
        **figures(report.total),
        "archives": {name: figures(of) for name, of in report.archives.items()},
        "notes": list(report.notes),
    }


def print_repetitions(report: RepetitionsReport, encoder: str) -> None:
    """Print how well sets were counted: all of them, and those whose action was recognized at least once."""
    table = Table(
        title="Repetitions counted in sets of an exercise, one example by another person, with 95 % intervals",
        caption=f"encoder: {escape(encoder)}; a set: an action three times or more in a row",
    )
    table.add_column("sets", overflow="fold")
    for column in ("number\npeople", "counted by", "within one", "exact", "mean error\nbias"):
        table.add_column(column, justify="left" if column == "counted by" else "right")
    for name, of in [*report.archives.items(), ("all", report.total)]:
        for scores, what, number in (
            (of.all, "", of.num_sets),
            (of.recognized, "\nrecognized", of.num_recognized),
        ):
            for method, score in scores.items():
                is_first = method == "ours"
                low, high = (_number(100 * bound, 0) for bound in score.ci95)
                table.add_row(
                    escape(name) + what if is_first else "",
                    f"{number}\n{of.num_people}" if is_first else "",
                    _COUNTERS[method],
                    f"{_number(100 * score.within_one, 1)} %\n({low}–{high})",
                    f"{_number(100 * score.exact, 1)} %",
                    f"{_number(score.mean_error, 2)}\n{_number(score.bias, 2)}",
                )
            table.add_section()
    console = Console()
    console.print(table)
    for name, of in [*report.archives.items(), ("all", report.total)]:
        console.print(
            f"{escape(name)}: progress is off by {_number(100 * of.progress_error, 0)} % of a repetition; "
            f"{of.num_elsewhere} repetitions told where the action was not done, in {of.hours:.2f} h",
            soft_wrap=True,
        )
    for note in report.notes:
        console.print(escape(note), soft_wrap=True)


def _as_dict(score: StreamScore) -> dict[str, Any]:
    return {
        name: _finite(value) if not isinstance(value, dict) else {key: _finite(v) for key, v in value.items()}
        for name, value in asdict(score).items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_streams(report: StreamReport, encoder: str) -> None:
    """Print the tables, and what the figures do not say."""
    title = "Events on streams, one example a class by another person, with 95 % intervals"
    _print_scores(title, [*report.archives.items(), ("all", report.total), *report.slices.items()], encoder)
    console = Console()
    for method, score in report.total.items():
        console.print(f"{_METHODS[method]}: {_in_words(score)}", soft_wrap=not console.is_terminal)
    for note in report.notes:
        console.print(escape(note), soft_wrap=not console.is_terminal)


def _print_scores(title: str, rows: Sequence[tuple[str, Scores]], encoder: str) -> None:
    table = Table(
        title=title,
        caption=f"encoder: {escape(encoder)}; delays from an action's end to its event, in the stream's time",
    )
    table.add_column("streams", overflow="fold", min_width=14)
    table.add_column("", no_wrap=True)
    for column in ("F1", "prec.\nrecall", "false/h", "hours", "delay\np50, p90"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, scores in rows:
        for method, score in scores.items():
            table.add_row(
                escape(name) if method == "ours" else "",
                _METHODS[method],
                f"{_number(score.f1, 2)}\n{_interval(score, 'f1', 2)}",
                f"{_number(score.precision, 2)}\n{_number(score.recall, 2)}",
                f"{_number(score.false_alarms_per_hour, 1)}\n{_interval(score, 'false_alarms_per_hour', 1)}",
                f"{score.hours:.2f}",
                f"{_number(score.delay_p50_ms, 0)} ms\n{_number(score.delay_p90_ms, 0)} ms",
            )
        table.add_section()
    Console().print(table)


def _in_words(score: StreamScore) -> str:
    false, hours = score.false, score.hours_of
    return (
        f"{score.num_events} events for {score.num_actions} actions; false while an enrolled action was done: "
        f"{false['enrolled']}; while another: {false['other']} in {hours['other']:.2f} h; at rest and in between: "
        f"{false['rest']} in {hours['rest']:.2f} h; event after an action's start: "
        f"{_number(score.delay_from_start_p50_ms, 0)} ms, p90 {_number(score.delay_from_start_p90_ms, 0)}; "
        f"computing it: {_number(score.wall_p50_ms, 1)} ms, p90 {_number(score.wall_p90_ms, 1)}"
    )


def _travel_in_words(travel: Travel) -> str:
    own = f"F1 {travel.best_f1:.2f} with its own best threshold, {travel.best_factor:.2f} times the default"
    if travel.others_f1 is None:
        return own
    return f"{own}; {travel.others_f1:.2f} with the one of the other archives, {travel.others_factor:.2f} times it"


def _interval(score: StreamScore, name: str, digits: int) -> str:
    low, high = (_number(bound, digits) for bound in score.ci95[name])
    return f"≤ {high}" if name == "false_alarms_per_hour" and not score.false_alarms_per_hour else f"{low}–{high}"


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"
