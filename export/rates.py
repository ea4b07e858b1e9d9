"""The rates of false alarms and misses that ship with a bundle, measured on streams of archives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from edge.config import Config
from edge.match import PrototypeIndex
from edge.model import BundleEncoder, BundleInfo, Encoder, Rates
from streams.archive import read_archive
from streams.errors import ArchiveError, BundleError
from training.evaluate.live import JointsEncoder, MakeIndex, Stream, build_streams, dtw_index, fit_rates

Report = Callable[[int, int], None]

# The score is 0.5 where a label alarms so often. The distance at which 0.2 % of the pairs of different clips match
# hangs on how alike a set's actions are: 0.94 over seven sets, 0.76 over ten; this one is 0.78 and 0.75.
ALARMS_PER_HOUR = 5.0
# So many minutes of streams, from all archives alike: at 3 ms a window three minutes of work.
MINUTES = 60.0
# All classes of an archive are enrolled at once: the more labels, the more hours the same movement speaks for.
_ALL = 1000


def add_rates(
    encoder: BundleEncoder, archives: Sequence[Path], report: Report = lambda done, total: None
) -> BundleInfo:
    """Return a bundle's description with the rates of its encoder on archives, where it has none yet.

    The score's midpoint becomes the distance of ALARMS_PER_HOUR; so does that of sliding DTW, the baseline, over the
    same streams. Raises BundleError where the archives give no rates.
    """
    info = encoder.info
    streams = streams_of(archives)
    rates = rates_of(streams, encoder, lambda done, total: report(done, 2 * total))
    dtw = rates_of(streams, JointsEncoder(info, 1.0), lambda done, total: report(total + done, 2 * total), dtw_index)
    source = f"{info.score_curve.source}; at the midpoint, by `rates`, a label alarms {ALARMS_PER_HOUR:g} times an hour"
    score_curve = msgspec.structs.replace(info.score_curve, midpoint=_midpoint(rates), source=source)
    return msgspec.structs.replace(info, rates=rates, dtw_midpoint=_midpoint(dtw), score_curve=score_curve)


def _midpoint(rates: Rates) -> float:
    return round(float(np.interp(ALARMS_PER_HOUR, rates.alarms_per_hour, rates.distances)), 6)


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
