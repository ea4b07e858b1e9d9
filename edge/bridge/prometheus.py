"""The daemon's counters for Prometheus, at /metrics: names and units after its conventions, few enough labels."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from edge.bridge.bridge import Counts, Told, library
from edge.config import EventType
from edge.config import PrometheusBridge as PrometheusConfig
from edge.protocol import SourceStatus, StatusAnswer
from streams import BridgeError

OTHER = "(other)"
# As many sources as the daemon itself remembers; reasons are words of the program.
_MAX_SOURCES = 64
_LATENCY_BOUNDS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_PREFIX = "crossglg_edge"

_GAUGES = (
    ("uptime_seconds", "Time since the daemon started.", "uptime_s"),
    ("bodies", "Bodies that are followed now.", "bodies"),
    ("hop_seconds", "Time between two decisions about a body, smoothed.", "hop_s"),
)
_COUNTERS = (
    ("decisions", "Decisions about a body.", "decisions"),
    ("windows_encoded", "Windows that were encoded.", "windows"),
    ("encoder_seconds", "Time that the encoder ran.", "encode_s"),
    ("decisions_skipped", "Decisions that were due and not made, on a machine that is too slow.", "hops_skipped"),
    ("encodes_failed", "Calls of the encoder that failed.", "encodes_failed"),
    ("bodies_refused", "Bodies beyond stream.max_bodies, counted in each frame.", "bodies_refused"),
)
_SOURCE_COUNTERS = (
    ("frames", "Frames that were taken.", "frames"),
    ("frames_lost", "Frames that never arrived, by gaps in seq.", "lost"),
    ("source_restarts", "How often a source's clock was set back.", "restarts"),
)


class Prometheus:
    """Serve what the last status says; count by itself only the events of each label and their latency."""

    def __init__(self, config: PrometheusConfig) -> None:
        self.counts = Counts()
        self.target = f"http://{config.host}:{config.port}/metrics"
        self.types: tuple[EventType, ...] = ("onset", "update", "end")
        self.labels: tuple[str, ...] = ()
        self._max_labels = config.max_labels
        self._lock = threading.Lock()
        self._status: StatusAnswer | None = None
        self._status_s = 0.0
        self._names: set[str] = set()
        self._events: Counter[tuple[str, str]] = Counter()
        self._core = library("prometheus_client.core", "prometheus_client")
        client = library("prometheus_client", "prometheus_client")
        registry = client.CollectorRegistry()
        self._latency = client.Histogram(
            f"{_PREFIX}_event_latency_seconds",
            "From the exposure of the newest frame to the event's onset.",
            buckets=_LATENCY_BOUNDS_S,
            registry=registry,
        )
        registry.register(self)
        try:
            self._server, self._thread = client.start_http_server(config.port, config.host, registry)
        except OSError as error:
            raise BridgeError(
                f"{config.host}:{config.port} cannot be listened at: {error.strerror}",
                hint="Name another address, or free this one: crossglg-edge bridge prometheus HOST:PORT",
            ) from error

    def take(self, told: Told) -> None:
        """Count an event."""
        event = told.event
        with self._lock:
            if event.label not in self._names and len(self._names) < self._max_labels:
                self._names.add(event.label)
            label = event.label if event.label in self._names else OTHER
            self._events[label, event.type] += 1
        if event.type == "onset":
            self._latency.observe(event.latency_ms.total / 1000)
        self.counts.send()

    def see(self, status: StatusAnswer | None) -> None:
        """Keep the newest status; with none, what it counted is not served any more."""
        with self._lock:
            self._status, self._status_s = status, time.monotonic()

    def step(self, now_s: float) -> None:
        """Do nothing: whoever asks is answered by a thread of the library."""

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=2)

    def describe(self) -> Iterable[Any]:
        """Say nothing of names at the start: asked first, the library would call `collect`."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Yield every family of metrics; the library calls it for each request."""
        with self._lock:
            status, since_s = self._status, time.monotonic() - self._status_s
            events = dict(self._events)
        yield self._gauge("up", "Whether the daemon was heard of in the last seconds.", [((), int(status is not None))])
        rows = [(key, num) for key, num in sorted(events.items())]
        yield self._counter("events", "Events that were told since this bridge began to listen.", rows, "label", "type")
        if status is not None:
            yield from self._of_daemon(status)
            sources = dict(sorted(status.sources.items())[:_MAX_SOURCES])
            yield from self._of_sources(sources, status.dropped, since_s)

    def _of_daemon(self, status: StatusAnswer) -> Iterator[Any]:
        about = (status.version, status.model.name, status.model.engine.runs)
        yield self._gauge("info", "What runs.", [(about, 1)], "version", "model", "engine")
        for name, text, field in _GAUGES:
            yield self._gauge(name, text, [((), getattr(status, field))])
        for name, text, field in _COUNTERS:
            yield self._counter(name, text, [((), getattr(status, field))])
        times = [(("0.5",), status.per_frame_us.p50 / 1e6), (("0.99",), status.per_frame_us.p99 / 1e6)]
        yield self._gauge("frame_processing_seconds", "Work on one of the last frames.", times, "quantile")
        yield self._gauge("gallery_examples", "Examples in the gallery.", [((), status.gallery.examples)])

    def _of_sources(self, sources: dict[str, SourceStatus], unknown: dict[str, int], since_s: float) -> Iterator[Any]:
        for name, text, field in _SOURCE_COUNTERS:
            rows = [((source,), getattr(found, field)) for source, found in sources.items()]
            yield self._counter(name, text, rows, "source")
        dropped = [((name, reason), num) for name, found in sources.items() for reason, num in found.dropped.items()]
        dropped += [(("", reason), num) for reason, num in unknown.items()]
        text = "Frames that were not taken; source is empty where it is not known."
        yield self._counter("frames_dropped", text, dropped, "source", "reason")
        rates = [((source,), found.fps) for source, found in sources.items()]
        yield self._gauge("source_frames_per_second", "Rate of a source's frames.", rates, "source")
        ages = [((source,), found.age_s + since_s) for source, found in sources.items()]
        yield self._gauge("source_age_seconds", "Time since a source's last frame.", ages, "source")

    def _gauge(self, name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Any:
        return _filled(self._core.GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=labels), rows)

    def _counter(self, name: str, text: str, rows: Iterable[tuple[tuple[str, ...], float]], *labels: str) -> Any:
        return _filled(self._core.CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels), rows)


def _filled(family: Any, rows: Iterable[tuple[tuple[str, ...], float]]) -> Any:
    for labels, value in rows:
        family.add_metric(labels, value)
    return family
