"""What a user can set of the cameras `webcam` and `video`; no numpy here."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class WebcamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cameras `webcam` and `video`, which `crossglg-edge setup webcam` sets up."""

    folder: Annotated[str, Meta(description="where `setup webcam` put it; empty: your own data folder")] = ""
    people: Annotated[
        int, Meta(ge=1, le=6, description="people who are looked for at a time; each more costs time for a picture")
    ] = 2
    fps: Annotated[float, Meta(ge=1, le=240, description="pictures a second that a webcam is asked for")] = 30.0
    exposure_ms: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="exposure that a webcam is asked for; 0: automatic, which makes many webcams slow in the dark",
        ),
    ] = 0.0
