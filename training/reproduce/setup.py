"""What a table or figure is made of: protocol, preset, sizes, seeds; all of it is checked before the long work."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from streams.errors import ArchiveError, ConfigError
from streams.files import replace_file
from training.evaluate import Protocol, read_protocol
from training.reproduce.paper import read_paper
from training.reproduce.rows import Arm
from training.run import EncoderName, Preset, TrainConfig, load_guidance, read_train_config, text_encoder_at_hand
from training.texts import available_llms, chosen_texts, read_descriptions

ProtocolName = Literal["open", "ntu120", "ntu60", "kinetics"]

PROTOCOL_FILES: dict[str, str] = {
    "open": "protocol.json", "ntu120": "ntu120_one_shot.json", "ntu60": "ntu60_one_shot.json",
    "kinetics": "kinetics_one_shot.json",
}  # fmt: skip
_PREPARE = {
    "open": "protocol.json and its archives belong into one folder",
    "ntu120": "make them: crossglg-edge prepare ntu nturgb+d_skeletons --out FOLDER",
    "ntu60": "make them: crossglg-edge prepare ntu nturgb+d_skeletons --out FOLDER",
    "kinetics": "make them: crossglg-edge prepare kinetics kinetics-skeleton --out FOLDER",
}
# Of one draw, a hundredth of a second by distance, a second by the distribution classifier.
NUM_DRAWS, NUM_CALIBRATED_DRAWS = 100, 20
PLAN = "reproduce.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Say how long a training is: the preset's epochs, or so many windows or steps, whatever the base set's size."""

    num_windows: int | None = None
    num_steps: int | None = None

    def epochs(self, config: TrainConfig, num_clips: int) -> int:
        """Return the epochs of a training on so many clips."""
        num_windows = self.num_windows if self.num_steps is None else self.num_steps * config.batch
        return config.epochs if num_windows is None else max(1, round(num_windows / num_clips))

    @property
    def words(self) -> str:
        """Say it in a few words."""
        if self.num_windows is not None:
            return f"{self.num_windows:,} windows a training"
        return "the preset's epochs" if self.num_steps is None else f"{self.num_steps:,} steps a training"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Hold what a person chose; None leaves it to the table."""

    data: Path
    out: Path
    protocol: ProtocolName | None = None
    preset: Preset = "2-cores"
    config: Path | None = None
    columns: tuple[int, ...] | None = None
    seeds: int = 1
    draws: int = NUM_DRAWS
    size: Size = Size()
    texts: tuple[str, ...] = ()
    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Hold what was chosen, checked: the protocol's file, and the numbers of base actions."""

    name: str
    choices: Choices
    protocol_name: ProtocolName
    protocol: Protocol
    columns: tuple[int, ...]
    texts: tuple[str, ...]

    @property
    def protocol_file(self) -> Path:
        """The protocol's JSON file."""
        return self.choices.data / PROTOCOL_FILES[self.protocol_name]

    @property
    def seeds(self) -> range:
        """The seeds of the trainings."""
        return range(self.choices.seeds)

    def base(self, num_base: int) -> tuple[str, ...]:
        """Return the first so many base actions."""
        return self.protocol.base_order[:num_base]

    def preset(self, encoder: str) -> TrainConfig:
        """Return the preset with an encoder, changed by the keys of the config file. Raises ConfigError."""
        return read_train_config(self.choices.preset, self.choices.config, {"encoder": encoder})

    def train_config(self, arm: Arm, num_base: int, seed: int) -> TrainConfig:
        """Return an arm's configuration, but for the epochs that a size gives. Raises ConfigError."""
        flags = arm.flags(seed)
        if self.choices.preset == "paper" and self.protocol_name in ("ntu60", "kinetics"):
            flags["second_person"] = "zeros"  # NTU-120 alone has the first person again in the place of a missing one
        if self.protocol_name == "kinetics" and arm.encoder.startswith("motionbert"):
            flags["motionbert"] = {"up": "y"}  # joints as images have them, which nothing turns
        config = read_train_config(self.choices.preset, self.choices.config, flags)
        if not config.needs_texts:
            return config
        llm = chosen_texts(config.descriptions, self.base(num_base))
        return replace(config, descriptions=llm, text_encoder=text_encoder_at_hand(llm, config.text_encoder))

    def training_archives(self) -> list[Path]:
        """Return the archives of the base actions: of Kinetics its training part. Raises ArchiveError."""
        data, sets = self.choices.data, sorted(set(self.protocol.sets))
        paths = [data / f"{name}.npz" for name in sets]
        missing = [path.name for path in paths if not path.exists()]
        if self.protocol_name == "kinetics":
            paths = sorted(data.glob("kinetics_train*.npz"))
            missing += [] if paths else ["kinetics_train.npz"]
        if missing:
            raise ArchiveError(
                f"{data} lacks {', '.join(missing[:8])}{' and more' * (len(missing) > 8)} of the protocol "
                f"{self.protocol_file.name}",
                code="not_found",
                hint=_PREPARE[self.protocol_name],
            )
        return paths


def open_setup(name: str, choices: Choices) -> Setup:
    """Check what was chosen for a table or figure, before anything long. Raises ArchiveError, ConfigError."""
    paper = read_paper()
    known = [*paper.tables, *paper.figures]
    if name not in known:
        raise ConfigError(f"unknown table {name!r}: expected one of {', '.join(known)}")
    own = (paper.tables | paper.figures)[name].protocol
    protocol_name = choices.protocol or _protocol_in(choices.data, own)
    file = choices.data / PROTOCOL_FILES[protocol_name]
    if not file.exists():
        raise ArchiveError(
            f"{choices.data} holds no {file.name}: expected the folder of the protocol {protocol_name!r}",
            code="not_found",
            hint=_PREPARE[protocol_name],
        )
    protocol = read_protocol(file)
    setup = Setup(
        name=name,
        choices=choices,
        protocol_name=protocol_name,
        protocol=protocol,
        columns=_columns(name, file, protocol, choices.columns),
        texts=(),
    )
    setup.training_archives()
    return replace(setup, texts=_texts(setup) if name == "table7" else ())


def _protocol_in(data: Path, own: str) -> ProtocolName:
    """Return the paper's own protocol of a table where the folder holds it, else the one that it holds."""
    names: tuple[ProtocolName, ...] = get_args(ProtocolName)
    found = [name for name in names if (data / PROTOCOL_FILES[name]).exists()]
    if own in found or len(found) == 1:
        return next(name for name in found if name == own or len(found) == 1)
    if not found:
        raise ArchiveError(
            f"{data} holds no protocol: expected one of {', '.join(PROTOCOL_FILES.values())}",
            code="not_found",
            hint="Name the folder that `crossglg-edge prepare` wrote, or that of the open protocol's archives.",
        )
    raise ConfigError(f"{data} holds {len(found)} protocols", hint=f"Choose one: --protocol {' or '.join(found)}.")


def _columns(name: str, file: Path, protocol: Protocol, wanted: Sequence[int] | None) -> tuple[int, ...]:
    num_base = len(protocol.base_order)
    columns = tuple(dict.fromkeys(wanted or protocol.settings or (num_base,)))
    if wrong := [number for number in columns if not 2 <= number <= num_base]:
        raise ConfigError(f"--columns {wrong[0]}: expected 2 to {num_base}, the base actions of {file}")
    table = read_paper().tables.get(name)
    # Figures, Table 7 and appendix 3 are of the smallest base set.
    return columns if wanted or (table is not None and len(table.columns) > 1) else columns[:1]


def _texts(setup: Setup) -> tuple[str, ...]:
    """Return the LLMs whose shipped texts describe all base actions, and the folders that were named."""
    actions = setup.base(max(setup.columns))
    # Without an action, the texts are of another data set.
    shipped = [llm for llm in available_llms() if {*actions} <= {*read_descriptions(llm)}]
    texts = tuple(dict.fromkeys((*shipped, *setup.choices.texts)))
    names = [Path(llm).resolve().name for llm in texts]
    if len({*names}) < len(names):
        raise ConfigError(f"two folders of texts have one name: {', '.join(names)}", hint="Give each its own name.")
    if not texts:
        raise ConfigError(
            f"no shipped texts describe the base actions of {setup.protocol_file.name}",
            hint=f"Describe them, crossglg-edge describe --help, and name the folder: "
            f"crossglg-edge reproduce table7 --data {shlex.quote(str(setup.choices.data))} --texts FOLDER",
        )
    return texts


def check_texts(setup: Setup, arms: Sequence[Arm]) -> None:
    """Refuse actions that lack texts, naming the command that makes them. Raises DescriptionError."""
    checked = set()
    for arm in arms:
        for num_base in setup.columns:
            config = setup.train_config(arm, num_base, 0)
            what = config.descriptions, config.text_encoder, num_base
            if config.needs_texts and what not in checked:
                checked.add(what)
                load_guidance(config.descriptions, setup.base(num_base), config.text_encoder)


def is_built(arm: Arm) -> bool:
    """Say whether there is such an encoder."""
    return arm.encoder in get_args(EncoderName)


def begin(setup: Setup) -> None:
    """Make the folder and say in it what its runs have in common. Raises ConfigError where it holds other ones."""
    out, plan = setup.choices.out, _describe(setup)
    path = out / PLAN
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            if any(out.glob("runs/*")) or (out / "run.json").exists():
                raise ConfigError(f"{out} holds runs of something else", hint="Name an empty folder: --out FOLDER.")
            replace_file(path, msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
            return
        before = msgspec.json.decode(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}", hint="Choose another --out.") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is damaged: {error}", hint="Remove the folder, or choose another --out.") from error
    changed = [key for key in plan if not isinstance(before, dict) or before.get(key) != plan[key]]
    if changed:
        raise ConfigError(
            f"{out} holds runs with another {', '.join(changed)}",
            hint="Choose another --out, remove that folder, or give the command that it was made with.",
        )
    if not setup.choices.resume:
        raise ConfigError(f"{out} holds runs already", hint="Add --resume to go on with them, or choose another --out.")


def _describe(setup: Setup) -> dict[str, Any]:
    """Return what must be the same for runs to stand in one table: what JSON gives back as it was."""
    choices = setup.choices
    tested = {choices.data / f"{name}.npz" for name in setup.protocol.sets}
    archives = sorted({*setup.training_archives(), *tested})
    return {
        "protocol": hashlib.sha256(setup.protocol_file.read_bytes()).hexdigest(),
        "archives": {path.name: path.stat().st_size for path in archives},
        "preset": choices.preset,
        "config": choices.config.read_text(encoding="utf-8") if choices.config else "",
        "size": asdict(choices.size),
        "draws": choices.draws,
    }
