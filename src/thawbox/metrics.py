"""All metrics of Thawbox. Times are in seconds; names of counters end in ``_total``."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_SLOW = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600)

REQUEST_SECONDS = Histogram(
    "thawbox_request_duration_seconds",
    "HTTP requests, from the first byte in to the last byte out",
    ("plane", "method", "route", "status"),
    buckets=_FAST,
)
REQUEST_FAULTS = Counter("thawbox_request_faults_total", "Requests that broke something inside", ("plane",))
OPEN_SOCKETS = Gauge("thawbox_open_websockets", "WebSockets of sandboxes that are open now", ("route",))

BUILDS = Counter(
    "thawbox_builds_total", "Builds that ended", ("outcome",)
)  # values of store.enums.BuildStatus
BUILD_SECONDS = Histogram(
    "thawbox_build_duration_seconds", "Builds, from claim to end", ("outcome",), buckets=_SLOW
)
BUILD_PHASE_SECONDS = Histogram(
    "thawbox_build_phase_duration_seconds", "Phases of builds", ("phase",), buckets=_SLOW
)

SANDBOX_CREATE_SECONDS = Histogram(
    "thawbox_sandbox_creation_duration_seconds",
    "From the request to a sandbox that answers",
    ("path",),  # values of store.enums.BootPath, but for fork: copies are not measured here
    buckets=_FAST,
)
SANDBOX_FREEZE_SECONDS = Histogram(
    "thawbox_sandbox_freeze_duration_seconds",
    "Moving a paused or stopped sandbox's memory to disk",
    buckets=_FAST,
)
POOL_READY = Gauge("thawbox_pool_ready", "Thawed sandboxes that wait for an owner", ("template",))
POOL_MISSES = Counter(
    "thawbox_pool_misses_total", "Requests that found no thawed sandbox waiting", ("template",)
)
POOL_REFILL_SECONDS = Histogram(
    "thawbox_pool_refill_duration_seconds", "Making a sandbox that waits for an owner", buckets=_FAST
)
RESTORE_FAILURES = Counter(
    "thawbox_restore_failures_total", "Snapshots that did not restore, so that the image was booted cold"
)
COMMAND_SECONDS = Histogram(
    "thawbox_command_duration_seconds", "Commands run inside sandboxes", ("outcome",), buckets=_FAST
)


def exposition() -> tuple[bytes, str]:
    """All metrics in Prometheus' text format, and the content type of that format."""
    return generate_latest(), CONTENT_TYPE_LATEST
