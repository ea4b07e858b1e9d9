"""The rates of false alarms and misses that ship with a bundle: from archives to bundle.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from edge.config import Config, Model
from edge.match import PrototypeIndex
from edge.model import Encoder, Rates, open_encoder, read_bundle
from streams.archive import read_archive
from streams.errors import ArchiveError, BundleError
from streams.files import replace_file
from training.evaluate.live import JointsEncoder, MakeIndex, Stream, build_streams, dtw_index, fit_rates

Report = Callable[[int, int], None]

# The score is 0.5 where a label alarms so often. The distance at which 0.2 % of the pairs of different clips match
# hangs on how alike a set's actions are: 0.94 over seven sets, 0.76 over ten; this one is 0.78 and 0.75.
ALARMS_PER_HOUR = 5.0
# So many minutes of streams, from all archives alike: at 3 ms a window three minutes of work.
MINUTES = 60.0
_MIDPOINT = "; at the midpoint, by `rates`,"
# All classes of an archive are enrolled at once: the more labels, the more hours the same movement speaks for.
_ALL = 1000


def add_rates(bundle: Path, archives: Sequence[Path], report: Report = lambda done, total: None) -> Rates:
    """Measure the rates of a bundle's encoder on archives and put them into its bundle.json, replaced as a whole.

    The score's midpoint becomes the distance of ALARMS_PER_HOUR; so does that of sliding DTW, the baseline, over the
    same streams. Raises ArchiveError, BundleError.
    """
    info, _ = read_bundle(bundle)
    encoder = open_encoder(bundle, Model(engine="onnxruntime"))
    streams = streams_of(archives)
    rates = rates_of(streams, encoder, report)
    dtw_midpoint = _midpoint(rates_of(streams, JointsEncoder(info, 1.0), report, dtw_index))
    source = (
        f"{info.score_curve.source.partition(_MIDPOINT)[0]}{_MIDPOINT} a label alarms {ALARMS_PER_HOUR:g} times an hour"
    )
    curve = msgspec.structs.replace(info.score_curve, midpoint=_midpoint(rates), source=source)
    info = msgspec.structs.replace(info, rates=rates, dtw_midpoint=dtw_midpoint, score_curve=curve)
    text = msgspec.json.format(msgspec.json.encode(info), indent=1)
    try:
        replace_file(bundle / "bundle.json", text + b"\n")
    except OSError as error:
        raise BundleError(f"{bundle / 'bundle.json'} cannot be written: {error.strerror}") from error
    return rates


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
