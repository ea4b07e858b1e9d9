"""The face of streams: what a program needs, each loaded when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import streams
from streams.frame import SkeletonFrame


@pytest.mark.parametrize("name", streams.__all__)
def test_a_name_of_the_face_is_there(name: str) -> None:
    assert getattr(streams, name) is not None
    assert name in dir(streams)


def test_a_name_of_the_face_is_that_of_its_module() -> None:
    assert streams.SkeletonFrame is SkeletonFrame


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Skeletons'"):
        streams.Skeletons  # noqa: B018


@pytest.mark.parametrize(
    ("names", "needs_numpy"),
    [("ControlClient, EventSubscriber, Event, Skeleton, ControlError, decode_event", False), ("SkeletonFrame", True)],
)
def test_only_a_name_that_needs_numpy_loads_it(names: str, needs_numpy: bool) -> None:
    code = f"import sys; from streams import {names}; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == f"{needs_numpy}\n"
