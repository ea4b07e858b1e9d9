"""The rows of the paper's tables: what each is made of, and which other row it is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.run import TrainConfig

# Keys of GuidanceConfig that an arm may change, and how a folder's name says it.
_GUIDANCE = {
    "num_pre": "npre", "alpha_calibrate": "alpha1-", "alpha_cross": "alpha2-", "text_self_attention": "tt",
    "key_joints": "", "calibrate_sum": "sum", "alpha_contrast": "contrast",
}  # fmt: skip
# What the paper says of the two losses (appendix 1).
_ALPHAS = (0.5, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Name what a training changes of the preset; None leaves it as it is.

    `texts`: an LLM whose texts are shipped, or a folder. `is_trained` False: fresh weights, whose normalization alone
    has seen the base actions.
    """

    encoder: str = "infogcn"
    global_to_local: bool = True
    local_to_global: bool = True
    num_pre: int | None = None
    text_self_attention: bool | None = None
    alpha_calibrate: float | None = None
    alpha_cross: float | None = None
    key_joints: str | None = None
    calibrate_sum: bool | None = None
    alpha_contrast: float | None = None
    lr_guidance: float | None = None
    permute_texts: bool = False
    texts: str | None = None
    is_trained: bool = True

    @property
    def is_guided(self) -> bool:
        """Whether it reads texts."""
        return self.global_to_local or self.local_to_global or bool(self.alpha_contrast)

    def flags(self, seed: int) -> dict[str, Any]:
        """Return its keys of TrainConfig, nested. The encoder alone has no projection: that is CrossGLG's."""
        guidance: dict[str, Any] = {"global_to_local": self.global_to_local, "local_to_global": self.local_to_global}
        for name in _GUIDANCE:
            if getattr(self, name) is not None:
                guidance[name] = getattr(self, name)
        if not self.is_guided:
            guidance["project"] = False
        flags: dict[str, Any] = {"encoder": self.encoder, "seed": seed, "guidance": guidance}
        if self.texts is not None:
            flags["descriptions"] = self.texts
        if self.lr_guidance is not None:
            flags["lr_guidance"] = self.lr_guidance
        if self.permute_texts:
            flags["permute_texts"] = True
        return flags if self.is_trained else flags | {"lr": 0.0, "epochs": 1}

    def name(self, preset: TrainConfig) -> str:
        """Return the beginning of its folder's name: what differs from the preset, so that tables share their runs."""
        ways = [way for way, is_on in (("g2l", self.global_to_local), ("l2g", self.local_to_global)) if is_on]
        parts = [self.encoder, "-".join(ways) or "alone"]
        if not self.is_trained:
            parts.append("untrained")
        for name, word in _GUIDANCE.items():
            value = getattr(self, name)
            if value is not None and value != getattr(preset.guidance, name):
                parts.append(f"{word}{int(value) if isinstance(value, bool) else value}")
        if self.lr_guidance not in (None, preset.lr_guidance):
            parts.append(f"lr{self.lr_guidance:g}")
        if self.permute_texts:
            parts.append("permuted")
        return "_".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold a row: its title as the paper has it, and how it is made: by an arm, a baseline, or DTW.

    `less`: the titles of the rows that it is held against, draw by draw. `is_ours`: not in the paper's table.
    """

    title: str
    arm: Arm | None = None
    baseline: str | None = None
    less: tuple[str, ...] = ()
    is_ours: bool = False


def _alone(encoder: str = "infogcn") -> Arm:
    return Arm(encoder=encoder, global_to_local=False, local_to_global=False)


_NONE = "no G2L, no L2G"
_UNTRAINED = Row(title="untrained encoder", arm=replace(_alone(), is_trained=False), less=(_NONE,), is_ours=True)
_DTW = Row(title="DTW", is_ours=True)


def _baselines(*names: str) -> list[Row]:
    titles = {
        "apsr": "APSR",
        "udtw": "uDTW",
        "sl-dml": "SL-DML",
        "skeleton-dml": "Skeleton-DML",
        "alca-gcn": "ALCA-GCN",
    }
    return [Row(title=titles[name], baseline=name) for name in names]


def _encoder(encoder: str, title: str, *between: Row, is_guided: bool = True) -> list[Row]:
    rows = [Row(title=title, arm=_alone(encoder)), *between]
    if is_guided:
        rows.append(Row(title=f"{title} + CrossGLG", arm=Arm(encoder=encoder), less=(title,)))
    return rows


def rows_of(table: str, texts: Sequence[str] = ()) -> list[Row]:
    """Return a table's rows in the paper's order, ours last; `texts`: the LLMs and folders of Table 7."""
    gap = Row(title="InfoGCN + GAP", baseline="gap-infogcn", less=("InfoGCN",))
    infogcn = _encoder("infogcn", "InfoGCN")
    if table == "table1":
        others = _baselines("apsr", "udtw", "sl-dml", "skeleton-dml", "alca-gcn")
        others += [*_encoder("motionbert", "MotionBERT"), *_encoder("hd-gcn", "HD-GCN")]
        return [*others, *_encoder("infogcn", "InfoGCN", gap), _DTW]
    if table == "table2":
        return [*_baselines("udtw"), *_encoder("motionbert", "MotionBERT", is_guided=False), *infogcn, _DTW]
    if table == "table3":
        return [*_encoder("motionbert", "MotionBERT", is_guided=False), *infogcn, _DTW]
    if table == "table4":
        return [
            Row(title=_NONE, arm=_alone()),
            Row(title="G2L", arm=Arm(local_to_global=False), less=(_NONE,)),
            Row(title="L2G", arm=Arm(global_to_local=False), less=(_NONE,)),
            Row(title="G2L and L2G", arm=Arm(), less=(_NONE,)),
            _UNTRAINED,
            _DTW,
        ]
    if table == "table5":
        return [_before_jid(number) for number in (3, 5, 7, 9)]
    if table == "table6":
        without, within = "no text-text interaction", "text-text interaction"
        return [
            Row(title=without, arm=Arm(global_to_local=False, text_self_attention=False)),
            Row(title=within, arm=Arm(global_to_local=False, text_self_attention=True), less=(without,)),
        ]
    if table == "table7":
        titles = [f"texts of {Path(llm).name}" for llm in texts]
        return [
            Row(title=title, arm=Arm(texts=llm), less=(titles[0],) if title != titles[0] else ())
            for title, llm in zip(titles, texts, strict=True)
        ]
    return _guidance() if table == "guidance" else _alphas()


def _guidance() -> list[Row]:
    """Return ways in which texts can count, each beside the same with the texts of another class."""
    joints = Arm(local_to_global=False, key_joints="binary", calibrate_sum=True, alpha_calibrate=2.0, lr_guidance=5.0)
    contrast = replace(_alone(), alpha_contrast=1.0)
    ways = {
        "G2L and L2G as in the preset": Arm(),
        "G2L, K as 0 or 1, alpha 1 = 2, JID at 5 times the rate": joints,
        "G2L, a sigmoid a joint, alpha 1 = 2, JID at 5 times the rate": replace(joints, key_joints="sigmoid"),
        "contrast with texts": contrast,
        "contrast with texts, alpha 3": replace(contrast, alpha_contrast=3.0),
        "G2L, K as 0 or 1, and contrast": replace(joints, alpha_contrast=1.0),
    }
    rows = [Row(title=_NONE, arm=_alone(), is_ours=True)]
    for title, arm in ways.items():
        permuted = f"{title}, texts permuted"
        rows.append(Row(title=title, arm=arm, less=(_NONE, permuted), is_ours=True))
        rows.append(Row(title=permuted, arm=replace(arm, permute_texts=True), less=(_NONE,), is_ours=True))
    return rows


def _before_jid(num_pre: int) -> Row:
    arm = Arm(local_to_global=False, num_pre=num_pre)
    return Row(title=f"Npre {num_pre}", arm=arm, less=("Npre 5",) if num_pre != 5 else ())


def _alphas() -> list[Row]:
    """Return the rows of appendix 3. At 0 that way of guidance is left out, as in its Table 4."""
    calibrate, cross = _ALPHAS
    rows = []
    for value in (0.0, 0.2, 0.5, 0.6):
        arm = Arm(global_to_local=value > 0, alpha_calibrate=value or None, alpha_cross=cross)
        rows.append(_alpha(f"alpha 1 = {value:g}", arm, f"alpha 1 = {calibrate:g}"))
    for value in (0.0, 0.2, 0.3, 0.5):
        arm = Arm(local_to_global=value > 0, alpha_calibrate=calibrate, alpha_cross=value or None)
        rows.append(_alpha(f"alpha 2 = {value:g}", arm, f"alpha 2 = {cross:g}"))
    return rows


def _alpha(title: str, arm: Arm, paper: str) -> Row:
    return Row(title=title, arm=arm, less=(paper,) if title != paper else ())


def figure_arms(figure: str) -> dict[str, Arm]:
    """Return the runs of a figure, by what stands over their columns."""
    none, both = _alone(), Arm()
    if figure == "figure4":
        return {"G2L and L2G": both}
    if figure == "figure6":
        return {"InfoGCN": none, "InfoGCN + CrossGLG": both}
    return {
        _NONE: none,
        "G2L": Arm(local_to_global=False),
        "L2G": Arm(global_to_local=False),
        "G2L and L2G": both,
    }
