"""The control socket's protocol: one table of commands, each with its request, its answer and its handler."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from edge.config import Config
from edge.daemon import HANDLERS
from edge.gallery.examples import Revision
from edge.model import BundleInfo
from edge.protocol import (
    COMMANDS,
    Change,
    Command,
    ConfigGet,
    EnrollDone,
    EnrollNegative,
    EnrollStatus,
    EnrollUnderWay,
    GalleryGet,
    GalleryUndo,
    ModelInfo,
    Piece,
    StoredNegatives,
    answer_from,
    arguments,
    command_of,
    request_from,
)
from streams.errors import ControlError
from streams.messages import decode_map, encode_map

each_command = pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
# There are eighty structs, and each is drawn by all its fields.
few = settings(max_examples=10)


# The table


def test_every_command_has_a_handler_and_every_handler_a_command() -> None:
    assert {command.request for command in COMMANDS} == set(HANDLERS)
    assert len({command.name for command in COMMANDS}) == len(COMMANDS) == len(HANDLERS)


@each_command
def test_a_handler_takes_the_request_and_returns_the_answer_of_its_command(command: Command) -> None:
    hints = get_type_hints(HANDLERS[command.request])
    taken, returned = hints["request"], hints["return"]
    assert command.request in (get_args(taken) or (taken,))
    assert set(command.answers) == set(get_args(returned) or (returned,))
    served = [kind.__name__ for name, kind in hints.items() if name not in ("request", "return")]
    assert served == ["DaemonDesk" if command.needs_daemon else "Desk"]


@each_command
def test_a_command_and_what_it_exchanges_are_described(command: Command) -> None:
    for described in (command.request, *command.answers):
        text = ((get_origin(described) or described).__doc__ or "").strip()
        assert text.endswith(".")
    assert "\n" not in command.description


def test_the_answers_about_model_and_history_have_all_that_the_bundle_and_the_gallery_have() -> None:
    assert ModelInfo.__struct_encode_fields__ == (*BundleInfo.__struct_encode_fields__, "engine")
    assert Change.__struct_fields__ == tuple(field.name for field in dataclasses.fields(Revision))


# What goes over the wire


def values_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a type, as msgspec describes it."""
    match kind:
        case inspect.Metadata():
            return values_of(kind.type)
        case inspect.StructType():
            return st.builds(kind.cls, **{field.name: values_of(field.type) for field in kind.fields})
        case inspect.UnionType():
            return st.one_of(*map(values_of, kind.types))
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.ListType():
            return st.lists(values_of(kind.item_type), max_size=3)
        case inspect.VarTupleType():
            fewest = kind.min_length or 0
            return st.lists(values_of(kind.item_type), min_size=fewest, max_size=fewest + 2).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(values_of, kind.item_types))
        case inspect.DictType():
            return st.dictionaries(values_of(kind.key_type), values_of(kind.value_type), max_size=3)
        case inspect.StrType():
            return st.text(min_size=kind.min_length or 0, max_size=20).map(lambda text: text.replace("\0", "x"))
        case inspect.IntType():
            least, most = kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**63
            return st.integers(least, most)
        case inspect.FloatType():
            least_s = kind.ge if kind.ge is not None else kind.gt
            return st.floats(least_s, kind.le, exclude_min=kind.gt is not None, allow_nan=False, allow_infinity=False)
    simple: dict[type, st.SearchStrategy[Any]] = {
        inspect.BoolType: st.booleans(),
        inspect.BytesType: st.binary(max_size=20),
        inspect.NoneType: st.none(),
        inspect.AnyType: st.none() | st.integers(0, 9) | st.text(max_size=3),
    }
    return simple[type(kind)]


@each_command
@few
@given(data=st.data())
def test_a_request_comes_over_as_it_was_sent(command: Command, data: st.DataObject) -> None:
    request = data.draw(values_of(inspect.type_info(command.request)))
    args = decode_map(encode_map(arguments(request)))
    assert request_from(command.name, args, has_daemon=True) == request
    assert command_of(request) is command


# Its engine and matching are checked as it is read, so that few texts are one.
ANSWERS = [(command, answer) for command in COMMANDS for answer in command.answers if answer is not Config]


@pytest.mark.parametrize(("command", "kind"), ANSWERS, ids=lambda what: getattr(what, "name", ""))
@few
@given(data=st.data())
def test_an_answer_comes_over_as_it_was_sent_even_from_a_daemon_that_says_more(
    command: Command, kind: type[msgspec.Struct], data: st.DataObject
) -> None:
    answer = data.draw(values_of(inspect.type_info(kind)))
    request = data.draw(values_of(inspect.type_info(command.request)))
    result = decode_map(encode_map(answer))
    assert answer_from(request, result) == answer
    assert answer_from(request, {**result, "news": [1, 2]}) == answer


def test_a_config_comes_over_even_from_a_daemon_that_has_more_keys() -> None:
    config = decode_map(encode_map(Config()))
    config["stream"]["news"] = 1
    assert answer_from(ConfigGet(), config | {"news": {}}) == Config()


def test_an_answer_that_lacks_something_is_refused_with_what_to_do() -> None:
    with pytest.raises(ControlError, match=r"gallery\.undo .* `gallery_revision`") as refused:
        answer_from(GalleryUndo(), {"undone": "revision 1"})
    assert refused.value.code == "bad_answer"
    assert "same version" in refused.value.hint


def test_the_state_of_an_enrollment_decides_which_answer_it_is() -> None:
    under_way: dict[str, Any] = {"state": "capture", "label": "wave", "left_s": 1, "message": ""}
    assert answer_from(EnrollStatus(), under_way) == EnrollUnderWay(**under_way)
    stored = {"ids": ["a"], "pieces": 1, "duration_s": 2, "frames": 60, "fps": 30, "joints": 1, "gallery_revision": 3}
    done = answer_from(EnrollStatus(), {"state": "done", "label": "ordinary movement", "result": stored})
    assert isinstance(done, EnrollDone)
    assert isinstance(done.result, StoredNegatives)


def test_arguments_that_are_as_by_default_are_not_sent() -> None:
    assert arguments(GalleryGet()) == {}
    assert arguments(GalleryGet(label="wave")) == {"label": "wave"}
    pieces = [Piece(timestamps_s=b"ab", joints_m=b"c")]
    assert arguments(EnrollNegative(pieces=pieces, origin="x"))["pieces"] == [{"timestamps_s": b"ab", "joints_m": b"c"}]


@each_command
def test_an_unknown_argument_is_refused_and_so_is_a_daemons_command_without_one(command: Command) -> None:
    with pytest.raises(ControlError) as refused:
        request_from(command.name, {"news": 1}, has_daemon=True)
    assert refused.value.code == "bad_args"
    with pytest.raises(ControlError) as refused:
        request_from(command.name, {"news": 1}, has_daemon=False)
    assert refused.value.code == ("unknown_command" if command.needs_daemon else "bad_args")


@pytest.mark.parametrize("module", ["edge.protocol", "edge.config", "streams.clients", "streams.errors", "streams"])
def test_who_only_asks_or_listens_imports_no_numpy(module: str) -> None:
    code = f"import sys, {module}; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
