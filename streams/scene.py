"""Bodies as Foxglove's 3D panel draws them: bones as lines, the body's id above its head.

A drawing is a message of Foxglove's standard schema SceneUpdate, rounded to a millimeter, in the axes of
ROS REP 103 (x forward, y left, z up).

Shapes: J joints of the layout that a frame names, B bones that connect them.
"""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from streams.frame import Body, SkeletonFrame
from streams.layouts import axes_matrix, layout_by_name

SCENE_SCHEMA = "foxglove.SceneUpdate"

_BONE_WIDTH_M = 0.02
_LABEL_HEIGHT_M = 0.12
_LABEL_ABOVE_HEAD_M = 0.2
# A body that left is deleted; one whose source has stopped goes after this.
_LIFETIME = {"sec": 1, "nsec": 0}
_LINE_LIST, _MATCHING_ID = 2, 0
_COLORS = tuple(
    {"r": r, "g": g, "b": b, "a": 1.0}
    for r, g, b in ((0.9, 0.3, 0.2), (0.2, 0.6, 0.9), (0.3, 0.8, 0.3), (0.9, 0.7, 0.1), (0.7, 0.4, 0.9))
)
_UNTURNED = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}


def draw(frame: SkeletonFrame, *, time_ns: int, drawn: Set[str]) -> tuple[dict[str, Any], Set[str]]:
    """Return a SceneUpdate with the bodies of which a joint was seen, and the ids of what it drew.

    `drawn`: the ids that the source's last frame drew; those that are gone are deleted. Raises
    LayoutError for a frame of unknown layout or axes.
    """
    timestamp = {"sec": time_ns // 1_000_000_000, "nsec": time_ns % 1_000_000_000}
    display_from_axes = _display_from_axes(frame.axes, frame.mirrored)
    bones_B2 = _bones(frame.layout)
    entities = []
    for body in frame.bodies:
        finite_m = np.where(np.isfinite(body.joints_m), body.joints_m, np.float32(np.nan))
        joints_m = (finite_m @ display_from_axes).astype(np.float64).round(3)
        if np.isfinite(joints_m).all(axis=1).any():
            common = {"timestamp": timestamp, "frame_id": frame.source, "lifetime": _LIFETIME, "frame_locked": True}
            entities.append({"id": str(body.id), **common, **_lines_and_text(body, joints_m, bones_B2)})
    ids = {entity["id"] for entity in entities}
    deletions = [{"timestamp": timestamp, "type": _MATCHING_ID, "id": id} for id in sorted(drawn - ids)]
    return {"deletions": deletions, "entities": entities}, ids


def _lines_and_text(body: Body, joints_m: npt.NDArray[np.float64], bones_B2: npt.NDArray[np.intp]) -> dict[str, Any]:
    seen = np.asarray(np.isfinite(joints_m).all(axis=1))
    ends_m = joints_m[bones_B2[seen[bones_B2].all(axis=1)].ravel()]
    x, y, z = joints_m[np.where(seen, joints_m[:, 2], -np.inf).argmax()].tolist()
    color = _COLORS[body.id % len(_COLORS)]
    lines = {
        "type": _LINE_LIST,
        "pose": {"position": _point(0.0, 0.0, 0.0), "orientation": _UNTURNED},
        "thickness": _BONE_WIDTH_M,
        "scale_invariant": False,
        "points": [_point(*end) for end in ends_m.tolist()],
        "color": color,
    }
    text = {
        "pose": {"position": _point(x, y, round(z + _LABEL_ABOVE_HEAD_M, 3)), "orientation": _UNTURNED},
        "billboard": True,
        "font_size": _LABEL_HEIGHT_M,
        "scale_invariant": False,
        "color": color,
        "text": str(body.id),
    }
    return {"lines": [lines], "texts": [text]}


def _point(x: float, y: float, z: float) -> dict[str, float]:
    return {"x": x, "y": y, "z": z}


@cache
def _bones(layout: str) -> npt.NDArray[np.intp]:
    return np.array(layout_by_name(layout).bones, np.intp)


@cache
def _display_from_axes(axes: str, mirrored: bool) -> npt.NDArray[np.float32]:
    """Return the (3, 3) matrix that takes row vectors to x forward, y left, z up, a selfie view undone."""
    left_up_forward = axes_matrix(axes) * np.array([-1 if mirrored else 1, 1, 1], np.float32)
    return left_up_forward[:, [2, 0, 1]]


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


# The part of Foxglove's standard schema that is written here; it knows the schema by its name.
_STRING, _INTEGER, _NUMBER, _BOOLEAN = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
_XYZ = {"x": _NUMBER, "y": _NUMBER, "z": _NUMBER}
_TIME = {"title": "time", **_object(sec=_INTEGER, nsec=_INTEGER)}
_POSE = _object(position=_object(**_XYZ), orientation=_object(**_XYZ, w=_NUMBER))
_STYLE = {"color": _object(r=_NUMBER, g=_NUMBER, b=_NUMBER, a=_NUMBER), "pose": _POSE, "scale_invariant": _BOOLEAN}
_LINES = _object(type=_INTEGER, thickness=_NUMBER, points=_array(_object(**_XYZ)), **_STYLE)
_TEXT = _object(billboard=_BOOLEAN, font_size=_NUMBER, text=_STRING, **_STYLE)
_ENTITY = _object(
    timestamp=_TIME,
    frame_id=_STRING,
    id=_STRING,
    lifetime={**_TIME, "title": "duration"},
    frame_locked=_BOOLEAN,
    lines=_array(_LINES),
    texts=_array(_TEXT),
)
SCENE_JSONSCHEMA = {
    "title": SCENE_SCHEMA,
    **_object(
        deletions=_array(_object(timestamp=_TIME, type=_INTEGER, id=_STRING)),
        entities=_array(_ENTITY),
    ),
}
