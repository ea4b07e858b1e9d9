"""What the words of labels change live: real recordings played with them and without, by the same examples.

python benchmarks/words_live.py STREAMS.npz... [--every 4] --out FILE
Needs `crossglg-edge setup words` and recordings with truth, as `evaluate recordings` takes them.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.config import Config, WordsUse, read_config
from edge.model import Encoder, open_encoder
from edge.words import Words, open_words
from streams.continuous import read_continuous
from training.evaluate.live import (
    Enrollment,
    Method,
    Outcome,
    RememberingEncoder,
    f1_of,
    outcome_of,
    play,
    score_streams,
    streams_with_own_examples,
)

_RESAMPLES = 2000


def outcomes(path: Path, encoder: Encoder, words: Words, every: int) -> dict[str, list[Outcome]]:
    """Play each so many-th recording of a file with one example of five labels."""
    found: dict[str, list[Outcome]] = {"without": [], "with words": []}
    for stream in streams_with_own_examples(read_continuous(path), Config(), Enrollment())[::every]:
        once = RememberingEncoder(encoder)
        for name, said in (("without", None), ("with words", words)):
            method = Method(encoder=once, config=Config(), words=said)
            found[name].append(outcome_of(stream, play(stream, method)))
    return found


def gain(without: Sequence[Outcome], with_words: Sequence[Outcome]) -> str:
    """Return the difference of F1 with its 95 % interval by bootstrap over people, seed 0."""
    people = sorted({outcome.group for outcome in without})
    of = {name: [i for i, outcome in enumerate(without) if outcome.group == name] for name in people}

    def difference(chosen: Sequence[str]) -> float:
        numbers = [i for name in chosen for i in of[name]]
        with_f1, without_f1 = (f1_of([each[i] for i in numbers]) for each in (with_words, without))
        return with_f1 - without_f1

    rng = np.random.default_rng(0)
    drawn = [difference(rng.choice(people, len(people)).tolist()) for _ in range(_RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{difference(people):+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="+", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    encoder = open_encoder()
    words = open_words(WordsUse(text_encoder=read_config().words.text_encoder), encoder.info, None)
    lines = ["| set | recordings | | F1 | precision | recall | false alarms/h | F1 gained |", f"|{8 * '---|'}"]
    for path in args.streams:
        found = outcomes(path, encoder, words, args.every)
        for name, own in found.items():
            s = score_streams(own)
            gained = gain(found["without"], own) if name != "without" else ""
            lines.append(
                f"| {path.stem} | {len(own)} | {name} | {s.f1:.3f} | {s.precision:.3f} | {s.recall:.3f} | "
                f"{s.false_alarms_per_hour:.1f} | {gained} |"
            )
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(args.out.read_text(encoding="utf-8"), f"every {args.every}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
