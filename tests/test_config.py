"""The configuration: what is refused, and that the printed file reads back."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge import config as config_module
from edge.config import Config, Enroll, Events, GalleryFile, Model, Stream, Windows, config_toml, read_config
from streams.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def refused(path: Path, text: str) -> ConfigError:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as refusal:
        read_config(path)
    assert str(path) in refusal.value.message
    return refusal.value


def sections(of: type[msgspec.Struct] = Config, lead: str = "") -> Iterator[tuple[str, type[msgspec.Struct]]]:
    for field in msgspec.structs.fields(of):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield f"{lead}{field.name}", field.type
            yield from sections(field.type, f"{lead}{field.name}.")


def numbers() -> Iterator[str]:
    for section, kind in sections():
        for field in msgspec.structs.fields(kind):
            if getattr(field.type, "__origin__", None) in (int, float):
                yield f"{section}.{field.name}"


# What reads back


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(
            camera='replay:C:\\töne\\"a" #1.mcap',
            stream=Stream(max_rate_fps=1000, min_rate_fps=1e-7, max_bodies=1),
            windows=Windows(lengths_s=(0.5,), min_motion_m=0),
            events=Events(hits=3, settle_s=1.5),
            enroll=Enroll(countdown_s=0),
            model=Model(bundle="/a\tb/モデル", num_threads=64),
            gallery=GalleryFile(path="~/it's {here} [now] = 1"),
        ),
    ],
    ids=["default", "odd"],
)
def test_the_printed_configuration_reads_back_equal(path: Path, config: Config) -> None:
    path.write_text(config_toml(config), encoding="utf-8")
    assert read_config(path) == config


def test_every_key_is_printed_below_its_meaning() -> None:
    lines = config_toml(Config()).splitlines()
    num_keys = 0
    for before, line in zip(["", *lines], lines, strict=False):
        if line and not line.startswith(("#", "[")):
            num_keys += 1
            assert before.startswith("# ")
            assert len(before) > 10
        if line.startswith("["):
            assert before.startswith("# ")
    kinds = [kind for _, kind in sections()]
    num_fields = len(msgspec.structs.fields(Config)) + sum(len(msgspec.structs.fields(kind)) for kind in kinds)
    assert num_keys == num_fields - len(kinds)


def test_the_printed_file_is_toml_with_every_default() -> None:
    assert tomllib.loads(config_toml(Config())) == msgspec.json.decode(msgspec.json.encode(Config()))


def test_what_is_not_in_the_file_keeps_its_default(path: Path) -> None:
    path.write_text('camera = "demo"\n[events]\nmin_score = 0.7\n', encoding="utf-8")
    assert read_config(path) == Config(camera="demo", events=Events(min_score=0.7))
    path.write_text("", encoding="utf-8")
    assert read_config(path) == Config()


def test_whole_numbers_are_taken_for_seconds(path: Path) -> None:
    path.write_text("[windows]\nlengths_s = [1, 2]\nhop_s = 1\n", encoding="utf-8")
    assert read_config(path).windows == Windows(lengths_s=(1.0, 2.0), hop_s=1.0)


def test_the_users_own_file_is_read_where_there_is_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_module, "DEFAULT_PATH", path)
    assert read_config() == Config()
    path.write_text('camera = "demo"', encoding="utf-8")
    assert read_config().camera == "demo"


# Endpoints from elsewhere


def test_an_endpoint_is_the_flags_before_the_environments_before_the_files(path: Path) -> None:
    path.write_text('[sockets]\ncontrol = "ipc:///file"\nevents = "ipc:///file-events"\n', encoding="utf-8")
    environment = {"CROSSGLG_EDGE_CONTROL": "ipc:///environment", "CROSSGLG_EDGE_FRAMES": "tcp://*:5570"}
    sockets = read_config(path, environment=environment).sockets
    assert (sockets.control, sockets.frames, sockets.events) == (
        "ipc:///environment",
        "tcp://*:5570",
        "ipc:///file-events",
    )
    assert read_config(path, "tcp://[::1]:1", environment=environment).sockets.control == "tcp://[::1]:1"
    assert read_config(path, environment={"CROSSGLG_EDGE_CONTROL": ""}).sockets.control == "ipc:///file"


def test_the_environment_is_that_of_the_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("", encoding="utf-8")
    monkeypatch.setenv("CROSSGLG_EDGE_EVENTS", "ipc:///environment")
    assert read_config(path).sockets.events == "ipc:///environment"


@pytest.mark.parametrize(
    "bad", ["5562", "localhost:5562", "tcp://localhost", "tcp://:5562", "ipc://", "tcp://a:123456"]
)
def test_a_bad_endpoint_is_refused_with_where_it_is_from(path: Path, bad: str) -> None:
    assert "control is " in refused(path, f'[sockets]\ncontrol = "{bad}"\n').message
    path.write_text("", encoding="utf-8")
    for name in ("CROSSGLG_EDGE_FRAMES", "CROSSGLG_EDGE_EVENTS", "CROSSGLG_EDGE_CONTROL"):
        with pytest.raises(ConfigError, match=f"{name} is '.*expected an endpoint such as") as refusal:
            read_config(path, environment={name: bad})
        assert refusal.value.code == "bad_endpoint"
    with pytest.raises(ConfigError, match="--endpoint is '"):
        read_config(path, bad, environment={})


# What is refused


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cammera = 'demo'", "`cammera`"),
        ("[stream]\nmax_rate = 30", "`max_rate` - at `$.stream`"),
        ("[streams]\nmax_rate_fps = 30", "`streams`"),
        ("[stream]\nmax_rate_fps = '30'", "`$.stream.max_rate_fps`"),
        ("[stream]\nmax_bodies = 2.5", "`$.stream.max_bodies`"),
        ("[stream]\nmax_bodies = true", "`$.stream.max_bodies`"),
        ("[stream]\nmax_rate_fps = 0", "> 0"),
        ("[stream]\nmax_rate_fps = 1001", "<= 1000"),
        ("stream = 5", "`$.stream`"),
        ("camera = 5", "`$.camera`"),
        ("[windows]\nlengths_s = []", "`$.windows.lengths_s`"),
        ("[windows]\nlengths_s = [1.0, 0.05]", "`$.windows.lengths_s[1]`"),
        ("[windows]\nlengths_s = 1.0", "`$.windows.lengths_s`"),
        ("[windows]\nlengths_s = [1,1,1,1,1,1,1,1,1]", "<= 8"),
        ("[events]\nmin_score = 1.01", "`$.events.min_score`"),
        ("camera = \n", "line 1"),
        ("camera = 'demo'\ncamera = 'zmq'\n", "line 2"),
        ("a = " + "[" * 10_000, "recursion"),
    ],
)
def test_a_wrong_file_is_refused_with_the_key(path: Path, text: str, names: str) -> None:
    error = refused(path, text)
    assert names in error.message
    assert "crossglg-edge config" in error.hint


def test_a_file_that_cannot_be_read_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_config(path)
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(path)
    path.rmdir()
    path.write_bytes(b"camera = '\xff'")
    with pytest.raises(ConfigError, match="utf-8"):
        read_config(path)


def test_every_number_has_limits_that_infinity_and_nan_do_not_pass(path: Path) -> None:
    assert len(list(numbers())) > 20
    for key in numbers():
        section, _, name = key.rpartition(".")
        for value in ("inf", "-inf", "nan"):
            assert f"$.{key}" in refused(path, f"[{section}]\n{name} = {value}").message


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("[events]\nmin_scor = 0.5\n", "Did you mean `min_score`? "),
        ("cammera = 'zmq'\n", "Did you mean `camera`? "),
        ("[event]\nhits = 2\n", "Did you mean `events`? "),
        ("hits = 2\n", "`hits` belongs to [events]. "),
        ("[events]\nmax_age_s = 2\n", "`max_age_s` belongs to [stream]. "),
        ("[events]\nqqq = 2\n", ""),
        ("[events]\nhits = 'two'\n", ""),
    ],
)
def test_a_key_that_is_misspelt_or_misplaced_is_told_with_the_one_that_is_meant(
    path: Path, text: str, guess: str
) -> None:
    hint = refused(path, text).hint
    assert hint == f"{guess}`crossglg-edge config` prints every key with its meaning and default."
