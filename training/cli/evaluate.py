"""The offline command on archives: `crossglg-edge evaluate`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.errors import BundleError
from training.cli.baselines import baselines
from training.cli.progress import show_progress

if TYPE_CHECKING:
    from edge.config import Config
    from edge.model import BundleEncoder
    from edge.words import Words
    from training.evaluate import Result, Score
    from training.evaluate.live import Enrollment

evaluate = typer.Typer(
    help="Measure one-shot recognition on recordings, with plain DTW beside it.", no_args_is_help=True
)

evaluate.command("baselines")(baselines)

# As training.evaluate.live.SLICES has them, which takes a second to import.
SLICE_NAMES = (
    "5-fps", "10-fps", "15-fps", "30-fps", "lost-frames", "missing-joints", "mirrored", "half-speed", "double-speed",
    "view", "layout", "two-people", "id-swap",
)  # fmt: skip

_MAX_SHOTS = 20
_MAX_ANSWERS = 200

_Draws = Annotated[int, typer.Option(min=1, help="Draw exemplars this many times. Draw d has seed d.")]
_Bundle = Annotated[
    Path | None,
    typer.Option("--encoder", metavar="BUNDLE", help="The folder of a model bundle. Default: the shipped one."),
]
_Calibrated = Annotated[
    bool, typer.Option("--calibrated", help="Also choose by the paper's distribution classifier, which is slow.")
]
_Words = Annotated[
    bool,
    typer.Option("--words", help="Let the words of labels count, by the text encoder that `setup words` set up."),
]
_Shots = Annotated[
    str, typer.Option(metavar="N[,N...]", help="Enroll each class by so many examples, 1 to 20, one run each.")
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script, with accuracies from 0 to 1.")]


@evaluate.command("one-shot")
def one_shot(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    draws: _Draws = 100,
    by: Annotated[
        Literal["class", "action"], typer.Option(help="Tell classes apart, or merge them by action.")
    ] = "class",
    shots: _Shots = "1",
    encoder: _Bundle = None,
    calibrated: _Calibrated = False,
    words: _Words = False,
    as_json: _AsJson = False,
) -> None:
    """Enroll one clip of each class from one person, then name the clips of the others, all classes at once."""
    from statistics import fmean

    from training.evaluate import By, evaluate_archives

    numbers = _numbers(shots)
    onnx = _encoder(encoder, calibrated)
    said = _open_words(onnx, encoder) if words else None
    with show_progress() as report:
        found = evaluate_archives(
            archives, onnx, num_draws=draws, by=By(by), report=report, calibrated=calibrated, words=said, shots=numbers
        )
    content: dict[str, Any] = {}
    for number, results in found.items():
        mean = {method: fmean(result.scores[method].accuracy for result in results) for method in results[0].scores}
        if not as_json:
            _print_table(onnx.info.name, "archive", results, mean, number)
        _add_run(content, number, {"archives": {result.name: _as_dict(result) for result in results}, "mean": mean})
    if as_json:
        _print_json(content)


@evaluate.command("protocol")
def protocol(
    protocol: Annotated[
        Path | None,
        typer.Argument(metavar="PROTOCOL.json", help="The protocol. Default: protocol.json in --data or here."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of its archives. Default: beside it.")
    ] = None,
    draws: _Draws = 100,
    shots: _Shots = "1",
    encoder: _Bundle = None,
    calibrated: _Calibrated = False,
    words: _Words = False,
    as_json: _AsJson = False,
) -> None:
    """Tell apart a protocol's novel actions, from one clip each, over all its archives."""
    from training.evaluate import evaluate_protocol

    numbers = _numbers(shots)
    path = protocol or (data or Path()) / "protocol.json"
    onnx = _encoder(encoder, calibrated)
    said = _open_words(onnx, encoder) if words else None
    folder = data or path.parent
    with show_progress() as report:
        found = evaluate_protocol(
            path, onnx, data=folder, num_draws=draws, report=report, calibrated=calibrated, words=said, shots=numbers
        )
    content: dict[str, Any] = {}
    for number, result in found.items():
        if not as_json:
            _print_table(onnx.info.name, "protocol", [result], {}, number)
        _add_run(content, number, {"protocol": result.name, **_as_dict(result)})
    if as_json:
        _print_json(content)


@evaluate.command("stream")
def stream(
    archives: Annotated[list[Path], typer.Argument(metavar="ARCHIVE", help="Skeleton archives, .npz.")],
    negatives: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="ARCHIVE",
            help="An archive in which nobody does an enrolled action, for false alarms. Repeat it for more.",
        ),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option("--slice", help=f"Also a harder slice: {', '.join(SLICE_NAMES)}, or all. Repeat it for more."),
    ] = None,
    num_labels: Annotated[int, typer.Option(min=1, help="Enroll this many classes, one clip each.")] = 5,
    num_streams: Annotated[
        int, typer.Option(min=1, help="Make this many streams of each archive, each of another person.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The seed of every draw.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(help="Use the windows and events of this TOML file. Default: the defaults, not your own config."),
    ] = None,
    encoder: _Bundle = None,
    words: _Words = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Recognize live, in streams made of clips: one person does what another enrolled. Sliding DTW runs beside it."""
    from edge.config import Config, read_config
    from streams.archive import read_archive
    from training.evaluate.live import Build, evaluate_streams, print_streams, stream_json

    known = SLICE_NAMES
    names = list(known) if slices and "all" in slices else list(dict.fromkeys(slices or []))
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}: expected some of {', '.join(known)}, or all")
    onnx = _encoder(encoder, calibrated=False)
    said = _open_words(onnx, encoder) if words else None
    with show_progress() as report:
        found = evaluate_streams(
            [read_archive(path) for path in archives],
            onnx,
            read_config(config) if config else Config(),
            build=Build(seed=seed, num_labels=num_labels, num_streams=num_streams),
            slices=names,
            negatives=[read_archive(path) for path in negatives or []],
            words=said,
            report=report,
        )
    if as_json:
        _print_json(stream_json(found))
    else:
        print_streams(found, onnx.info.name)


@evaluate.command("recordings")
def recordings(
    paths: Annotated[list[Path], typer.Argument(metavar="STREAMS", help="Continuous recordings with truth, .npz.")],
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="ARCHIVE",
            help="Enroll the classes of this archive instead: every event in the recordings is then a false alarm.",
        ),
    ] = None,
    num_labels: Annotated[int, typer.Option(min=1, help="Enroll this many classes.")] = 5,
    shots: _Shots = "1",
    answers: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Measure learning from use instead: answer so many clips of the first half of each person's "
            "recordings by the truth, and score the second half.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The seed of every draw.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(help="Use the windows and events of this TOML file. Default: the defaults, not your own config."),
    ] = None,
    encoder: _Bundle = None,
    words: _Words = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Recognize live, in real recordings: one person does what another enrolled. Sliding DTW runs beside it."""
    from edge.config import Config, read_config
    from training.evaluate.live import Enrollment, evaluate_recordings, print_recordings, recording_json

    numbers = _numbers(shots)
    settings = read_config(config) if config else Config()
    if answers is not None:
        if gallery is not None or words or len(numbers) > 1:
            raise typer.BadParameter("--answers: expected neither --gallery nor --words, and one number of --shots")
        build = Enrollment(seed=seed, num_labels=num_labels, num_examples=numbers[0])
        _learn_from_use(paths, _encoder(encoder, calibrated=False), settings, answers, build, as_json=as_json)
        return
    onnx = _encoder(encoder, calibrated=False)
    said = _open_words(onnx, encoder) if words else None
    found = {}
    with show_progress() as report:
        for number in numbers:
            build = Enrollment(seed=seed, num_labels=num_labels, num_examples=number)
            told = (lambda what, *done, n=number: report(f"{what}, {n} a label", *done)) if len(numbers) > 1 else report
            found[number] = evaluate_recordings(
                paths, onnx, settings, build=build, gallery=gallery, words=said, report=told
            )
    content: dict[str, Any] = {}
    for number, each in found.items():
        if not as_json:
            print_recordings(each, onnx.info.name, num_examples=number)
        _add_run(content, number, recording_json(each))
    if as_json:
        _print_json(content)


@evaluate.command("repetitions")
def repetitions(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="STREAMS", help="Continuous recordings with truth, or archives of clips, .npz."),
    ],
    num_labels: Annotated[int, typer.Option(min=1, help="Enroll this many classes.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="The seed of every draw.")] = 0,
    config: Annotated[
        Path | None,
        typer.Option(help="Use the windows and events of this TOML file. Default: the defaults, not your own config."),
    ] = None,
    encoder: _Bundle = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a script.")] = False,
) -> None:
    """Count an exercise's repetitions live: one person does what another enrolled. A peak counter runs beside it."""
    from edge.config import Config, read_config
    from training.evaluate.live import Enrollment, evaluate_repetitions, print_repetitions, repetitions_json

    onnx = _encoder(encoder, calibrated=False)
    build = Enrollment(seed=seed, num_labels=num_labels)
    with show_progress() as report:
        found = evaluate_repetitions(
            paths, onnx, read_config(config) if config else Config(), build=build, report=report
        )
    if as_json:
        _print_json(repetitions_json(found))
    else:
        print_repetitions(found, onnx.info.name)


def _learn_from_use(
    paths: list[Path], encoder: BundleEncoder, config: Config, answers: str, build: Enrollment, *, as_json: bool
) -> None:
    from training.evaluate.live import answers_json, evaluate_answers, print_answers

    numbers = _numbers(answers, "--answers", 0, _MAX_ANSWERS)
    with show_progress() as report:
        found = evaluate_answers(paths, encoder, config, numbers, build=build, report=report)
    if as_json:
        _print_json(answers_json(found))
    else:
        print_answers(found, encoder.info.name)


def _numbers(text: str, option: str = "--shots", least: int = 1, most: int = _MAX_SHOTS) -> list[int]:
    """Return the numbers that an option names, each once."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and least <= int(part) <= most for part in parts):
        raise typer.BadParameter(f"{option} {text!r}: expected whole numbers from {least} to {most}, such as 1,3,5")
    return list(dict.fromkeys(int(part) for part in parts))


def _add_run(content: dict[str, Any], number: int, run: dict[str, Any]) -> None:
    """Put what a run gave beside those before: the first at the top, others in "shots" under their number."""
    if content:
        content.setdefault("shots", {})[str(number)] = run
    else:
        content |= run


def _encoder(bundle: Path | None, calibrated: bool) -> BundleEncoder:
    from edge.config import Model
    from edge.model import open_encoder

    encoder = open_encoder(bundle, Model(engine="onnxruntime", num_threads=os.cpu_count() or 1))
    if calibrated and encoder.statistics is None:
        raise BundleError(
            f"--calibrated needs a model bundle with base statistics, {encoder.info.name!r} has none",
            hint="`crossglg-edge export` writes them.",
        )
    return encoder


def _open_words(encoder: BundleEncoder, bundle: Path | None) -> Words:
    """Open the words of a bundle with the user's own text encoder. Raises BundleError, ConfigError, TextToolError."""
    from edge.config import WordsUse, read_config
    from edge.words import open_words

    return open_words(WordsUse(text_encoder=read_config().words.text_encoder), encoder.info, bundle)


def _as_dict(result: Result) -> dict[str, Any]:
    """Return what scripts read: each method beside the counts."""
    content = asdict(result)
    del content["name"]
    scores, plain, gains, notes = (content.pop(key) for key in ("scores", "plain", "gains", "notes"))
    return {**content, **scores, "plain": plain, **({"gains": gains} if gains else {}), "notes": notes}


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=2))


def _print_table(encoder: str, kind: str, results: list[Result], mean: dict[str, float], num_exemplars: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    enrolled = "one example" if num_exemplars == 1 else f"up to {num_exemplars} examples"
    table = Table(
        title=f"Accuracy in %, {enrolled} a class, with its 95 % interval",
        caption=f"encoder: {escape(encoder)}",
    )
    table.add_column(kind, overflow="fold")
    for column in ("ways", "draws", "clips"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("method", no_wrap=True)
    table.add_column("balanced", justify="right", no_wrap=True)
    table.add_column("plain", justify="right", no_wrap=True)

    def add(head: tuple[str, str, str, str], numbers: dict[str, str], plain: dict[str, Score]) -> None:
        for row, (method, number) in enumerate(numbers.items()):
            of_all = f"{100 * plain[method].accuracy:.1f}" if method in plain else ""
            table.add_row(*(("", "", "", "") if row else head), method.replace("dtw", "DTW"), number, of_all)
        table.add_section()

    for result in results:
        head = (escape(result.name), f"{result.ways}", f"{result.draws}", f"{result.clips}")
        add(head, {method: _percent(score) for method, score in result.scores.items()}, result.plain)
    if len(results) > 1:
        add(("mean", "", "", ""), {method: f"{100 * accuracy:.1f}" for method, accuracy in mean.items()}, {})
    console = Console()
    console.print(table)
    for result in results:
        for method, gain in result.gains.items():
            low, high = gain.ci95
            against = (
                f"{100 * gain.accuracy:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}) against encoder, draw by draw"
            )
            console.print(f"{escape(result.name)}: {method} {against}", soft_wrap=not console.is_terminal)
        used = [f"{result.ways_used:.1f} classes enrolled in the mean draw"]
        for note in (*(used if result.ways_used != result.ways else ()), *result.notes):
            console.print(f"{escape(result.name)}: {escape(note)}", soft_wrap=not console.is_terminal)


def _percent(score: Score) -> str:
    low, high = score.ci95
    return f"{100 * score.accuracy:.1f} ({100 * low:.1f}–{100 * high:.1f})"
