"""The rates of false alarms and misses that ship with a bundle, measured on streams of archives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from edge.config import Config
from edge.match import PrototypeIndex
from edge.model import BundleEncoder, BundleInfo, Encoder, Rates
from edge.thresholds import decisions_of
from streams.archive import read_archive
from streams.continuous import read_continuous
from streams.errors import ArchiveError, BundleError
from training.evaluate.live import (
    FACTORS,
    Enrollment,
    JointsEncoder,
    MakeIndex,
    Stream,
    build_streams,
    choose,
    dtw_index,
    f1_by_factor,
    fit_rates,
    prototypes_of,
    streams_with_own_examples,
)

Report = Callable[[int, int], None]

# Without recordings the score is 0.5 where a label alarms so often. The distance at which 0.2 % of the pairs of
# different clips match hangs on how alike a set's actions are: 0.94 over seven sets, 0.76 over ten; this one is 0.78
# and 0.75.
ALARMS_PER_HOUR = 5.0
# So many minutes of streams, from all archives alike: at 3 ms a window three minutes of work.
MINUTES = 60.0
# So many real recordings of an archive at most, spread evenly: an hour of them takes ten minutes.
_MOST_RECORDINGS = 60
# All classes of an archive are enrolled at once: the more labels, the more hours the same movement speaks for.
_ALL = 1000


def add_rates(
    encoder: BundleEncoder,
    archives: Sequence[Path],
    recordings: Sequence[Path] = (),
    report: Report = lambda done, total: None,
) -> BundleInfo:
    """Return a bundle's description with the rates of its encoder on archives, and the score's midpoint.

    The midpoint is the distance of ALARMS_PER_HOUR; with `recordings`, real ones of sensors that the encoder has not
    seen, the one that finds most in them (training.evaluate.live.choose). Sliding DTW, the baseline, gets its own
    likewise. Raises ArchiveError for bad recordings, BundleError where the archives give no rates.
    """
    info, config = encoder.info, Config()
    real = {
        path.stem: _spread(streams_with_own_examples(read_continuous(path), config, Enrollment()))
        for path in recordings
    }
    streams = streams_of(archives)
    num_steps = 2 * (len(streams) + sum(map(len, real.values())))
    num_done = 0

    def step(done: int, total: int) -> None:
        nonlocal num_done
        num_done += 1
        report(num_done, num_steps)

    def measure(encoder: Encoder, make_index: MakeIndex) -> tuple[Rates, float]:
        rates = rates_of(streams, encoder, step, make_index)
        midpoint = float(np.interp(ALARMS_PER_HOUR, rates.alarms_per_hour, rates.distances))
        if real:
            midpoint *= _factor(real, encoder, midpoint, make_index, step)
        return rates, round(midpoint, 6)

    rates, midpoint = measure(encoder, PrototypeIndex)
    _, dtw_midpoint = measure(JointsEncoder(info, 1.0), dtw_index)
    meaning = f"at the midpoint, by `rates`, a label alarms {_alarms(rates, midpoint):.2g} times an hour"
    if real:
        counts = ", ".join(f"{name} ({len(own)})" for name, own in real.items())
        meaning += f"; it is the one that finds most in real recordings of {counts}, of five labels each"
    source = f"{info.score_curve.source}; {meaning}"
    score_curve = msgspec.structs.replace(info.score_curve, midpoint=midpoint, source=source)
    return msgspec.structs.replace(info, rates=rates, dtw_midpoint=dtw_midpoint, score_curve=score_curve)


def _spread(streams: Sequence[Stream]) -> list[Stream]:
    chosen = np.linspace(0, len(streams) - 1, min(len(streams), _MOST_RECORDINGS)).round()
    return [streams[int(i)] for i in chosen]


def _alarms(rates: Rates, distance: float) -> float:
    return float(np.interp(distance, rates.distances, rates.alarms_per_hour))


def _factor(
    real: Mapping[str, Sequence[Stream]], encoder: Encoder, midpoint: float, make_index: MakeIndex, step: Report
) -> float:
    """Return how many times the midpoint finds most in recordings; the archives weigh alike."""
    config, curve = Config(), msgspec.structs.replace(encoder.info.score_curve, midpoint=midpoint)
    f1s = []
    for streams in real.values():
        played = []
        for stream in streams:
            index = make_index(prototypes_of(stream, encoder), encoder.info)
            played.append((stream, decisions_of(stream.frames(), index, encoder, config)))
            step(1, 1)
        f1s.append(f1_by_factor(played, curve, config.events))
    return float(FACTORS[choose(f1s)])


def rates_of(
    streams: Sequence[Stream],
    encoder: Encoder,
    report: Report = lambda done, total: None,
    make_index: MakeIndex = PrototypeIndex,
) -> Rates:
    """Return the rates over streams, with the default windows and events.

    Actions that the encoder was trained on are enrolled, too: at a like distance they alarmed as often as others
    (5.4 and 5.9 times an hour at the midpoint, over 44 minutes of seven sets). Raises BundleError.
    """
    num_hours = sum(stream.seen_s for stream in streams) / 3600
    names = ", ".join(sorted({stream.archive for stream in streams}))
    num_actions = sum(len(stream.actions) for stream in streams)
    source = f"{names}: {60 * num_hours:.0f} minutes of {len(streams)} people, who do {num_actions} actions in them"
    rates = fit_rates(streams, encoder, Config(), make_index, source=source, report=report)
    if rates is None:
        raise BundleError(
            "rates cannot be measured on these archives: nobody does there what another enrolls",
            hint="Give archives of several people.",
        )
    return rates


def streams_of(paths: Sequence[Path], minutes: float = MINUTES) -> list[Stream]:
    """Return about so many minutes of streams, of each archive alike, with all its classes enrolled but one."""
    streams: list[Stream] = []
    for path in paths:
        found: list[Stream] = []
        with suppress(ArchiveError):  # no stream can be made of it; `source` names those that were used
            found, _ = build_streams(read_archive(path), num_labels=_ALL)
        left_s = 60 * minutes / len(paths)
        for stream in found:
            if left_s > 0:
                streams.append(stream)
                left_s -= stream.seen_s
    return streams
