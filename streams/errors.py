"""Every error that a user can meet, one tree, of the offline commands too.

CrossGLGError
├── WireError        a frame or a control message that is refused
├── LayoutError      joints that fit no known layout
├── ArchiveError     a .npz archive, or the files beside it
├── RecordingError   an .mcap recording
├── CameraError      what `--camera` names cannot be opened
├── ConfigError      the TOML file
├── BundleError      a model bundle that is incomplete, altered or of another version
├── EngineError      what runs the model is missing, does not fit, or failed
├── GalleryError     the prototypes on disk, or a request that they cannot answer
├── ReviewError      the clips that are kept for review, or an answer to one
├── EnrollError      an enrollment that cannot succeed
├── BridgeError      what a bridge needs is missing or refused
├── ControlError     the daemon cannot be reached, or refused a command
├── DescriptionError the texts of an action, or what is derived from them
├── LlmError         a language model that gives no usable answer
└── TextToolError    what reads or embeds texts is missing
"""

from __future__ import annotations


class CrossGLGError(Exception):
    """Say what was expected, what came, from where; `hint` says what to do.

    `code` is a stable word that scripts compare; it travels in control answers and names the
    counter of a dropped frame.
    """

    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint


class WireError(CrossGLGError):
    """Refuse a frame or a control message."""

    default_code = "bad_message"


class LayoutError(CrossGLGError):
    """Refuse joints that fit no known layout."""

    default_code = "unknown_layout"


class ArchiveError(CrossGLGError):
    """Refuse a .npz archive, or the JSON files beside it."""

    default_code = "bad_archive"


class RecordingError(CrossGLGError):
    """Refuse an .mcap recording, or fail to write one."""

    default_code = "bad_recording"


class CameraError(CrossGLGError):
    """Fail to open what `--camera` names."""

    default_code = "no_camera"


class ConfigError(CrossGLGError):
    """Refuse a configuration file."""

    default_code = "bad_config"


class BundleError(CrossGLGError):
    """Refuse a model bundle."""

    default_code = "bad_bundle"


class EngineError(CrossGLGError):
    """Fail to open what runs the model, or to run it.

    Codes: not_installed, no_device, no_engine, engine_mismatch, parity_failed, unreachable, engine_failed.
    """

    default_code = "engine_failed"


class GalleryError(CrossGLGError):
    """Refuse a request on the gallery, or a gallery file."""

    default_code = "bad_gallery"


class ReviewError(CrossGLGError):
    """Refuse an answer to a clip that was kept for review, or the file of these clips."""

    default_code = "bad_review"


class EnrollError(CrossGLGError):
    """Refuse an enrollment; nothing was stored."""

    default_code = "enroll_failed"


class BridgeError(CrossGLGError):
    """Refuse what a bridge is given, or say what it lacks.

    Codes: not_installed, no_target, bad_secret, bad_target.
    """

    default_code = "bad_target"


class ControlError(CrossGLGError):
    """Fail to reach the daemon, or pass on its refusal."""

    default_code = "unreachable"


class DescriptionError(CrossGLGError):
    """Refuse an action's name, or the files of its description."""

    default_code = "bad_description"


class LlmError(CrossGLGError):
    """Get no answer from a language model, or none that can be used."""

    default_code = "llm_failed"


class TextToolError(CrossGLGError):
    """Say what the reading or embedding of texts lacks."""

    default_code = "no_text_tool"
