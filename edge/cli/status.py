"""The command `crossglg-edge status`."""

from __future__ import annotations

from edge.cli.ask import daemon
from edge.cli.options import ConfigOption, EndpointOption, JsonOption
from edge.cli.terminal import escape, out, print_json, table
from edge.config import read_config
from edge.protocol import CameraProcess, EngineReport, ReviewStatus, SourceStatus, Status, StatusAnswer, ask

_PLAIN_KEYS = (
    "version", "pid", "uptime_s", "camera", "enrolling", "bodies", "bodies_refused", "bodies_without_joints",
    "decisions", "windows", "hops_skipped", "encodes_failed",
)  # fmt: skip


def status(config: ConfigOption = None, endpoint: EndpointOption = None, as_json: JsonOption = False) -> None:
    """Show what the daemon does: its sources, rates, dropped frames, gallery and model."""
    with daemon(read_config(config, endpoint)) as client:
        answer = ask(client, Status())
    if as_json:
        print_json(answer)
        return
    _print_daemon(answer)
    _print_sources(answer)


def _print_daemon(answer: StatusAnswer) -> None:
    rows = table("", "", show_header=False, box=None)
    for key in _PLAIN_KEYS:
        rows.add_row(key, escape(str(getattr(answer, key))))
    rows.add_row("model", escape(answer.model.name))
    rows.add_row("engine", escape(_engine(answer.model.engine)))
    rows.add_row("matching", answer.model.matching)
    rows.add_row("words", escape(answer.model.words))
    if answer.camera_process is not None:
        rows.add_row("camera process", escape(_process(answer.camera_process)))
    gallery = answer.gallery
    rows.add_row("gallery", escape(f"{gallery.path}, revision {gallery.revision}"))
    rows.add_row("enrolled", escape(", ".join(gallery.labels)) or "nothing yet")
    if gallery.damaged:
        rows.add_row("damaged", f"[red]{gallery.damaged} examples are set aside[/]; see `crossglg-edge gallery check`")
    if gallery.backup:
        rows.add_row("backup", escape(gallery.backup))
    rows.add_row("events", ", ".join(f"{n} {kind}" for kind, n in answer.events.items()) or "none yet")
    if answer.review is not None:
        rows.add_row("review", escape(_kept(answer.review)))
    rows.add_row("per frame", f"p50 {answer.per_frame_us.p50} us, p99 {answer.per_frame_us.p99} us")
    recording = answer.recording
    rows.add_row("recording", escape(f"{recording.path}, {recording.frames} frames") if recording else "no")
    out().print(rows)


def _process(camera: CameraProcess) -> str:
    age = "no frame yet" if camera.age_s is None else f"last frame {camera.age_s:.1f} s ago"
    parts = [camera.state, "" if camera.pid is None else f"pid {camera.pid}", f"{camera.fps} fps", age]
    parts += [f"{camera.restarts} restarts", f"{camera.skipped} pictures skipped"]
    return ", ".join(filter(None, parts)) + (f"; last error: {camera.last_error}" if camera.last_error else "")


def _kept(review: ReviewStatus) -> str:
    parts = [f"{review.kept} clips kept", f"not kept: {_counts(review.not_kept)}" if review.not_kept else ""]
    return "; ".join(filter(None, (*parts, review.state)))


def _print_sources(answer: StatusAnswer) -> None:
    rows = table("source", "frames", "fps", "last seen", "lost on the way", "dropped, by reason")
    for name, source in answer.sources.items():
        seen = f"{source.age_s:.1f} s ago"
        dropped = _counts(source.dropped) or "none"
        rows.add_row(escape(name), str(source.frames), _rate(source), seen, str(source.lost), dropped)
    if answer.dropped:
        rows.add_row("(unknown)", "", "", "", "", _counts(answer.dropped))
    out().print(rows)


def _rate(source: SourceStatus) -> str:
    if source.slow:
        return f"[red]{source.fps} (slow)[/]"
    return str(source.fps) if source.fps or source.frames < 2 else "[red]silent[/]"


def _counts(by_reason: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in by_reason.items())


def _engine(engine: EngineReport) -> str:
    details = ", ".join(f"{key} {value}" for key, value in engine.details.items() if value != "")
    not_used = "".join(f"; not {name}: {reason}" for name, reason in engine.not_used.items())
    return f"{engine.runs} ({details}), asked for: {engine.asked}{not_used}"
