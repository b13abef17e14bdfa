"""Logging: one line per event on standard error, as JSON or for people, with the id of the request that caused it.

``get(name)`` returns a logger. Call it with a short event name, and with facts as keyword arguments. Values whose names
look like secrets are replaced.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

from .settings import Settings

_SECRET_WORDS = (
    "secret",
    "token",
    "password",
    "authorization",
    "api_key",
    "credential",
    "cookie",
    "env_vars",
)
HIDDEN = "***"


def get(name: str) -> FilteringBoundLogger:
    """A logger whose lines carry ``component=name``."""
    logger: FilteringBoundLogger = structlog.get_logger(component=name)
    return logger


def configure(settings: Settings) -> None:
    """Send the log lines of Thawbox and of libraries to standard error, as ``log_level`` and ``log_json`` say.

    Raises:
        ValueError: ``log_level`` is not the name of a level.
    """
    as_json = settings.log_json if settings.log_json is not None else not sys.stderr.isatty()
    level = _level(settings.log_level)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    tail: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, *tail],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lossy(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))  # libraries: only warnings and errors


class _Lossy:
    """A file whose write errors are ignored: if the disk below the log is full, a line is lost but no request fails."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._file.flush()


def hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: replaces the values of keys that look like secrets, also inside mappings, with ``***``."""
    for name, item in event.items():
        event[name] = _hidden(name, item)
    return event


def _hidden(name: str, item: Any) -> Any:
    if any(word in name.lower() for word in _SECRET_WORDS):
        return HIDDEN if item is not None else None
    if isinstance(item, dict):
        return {key: _hidden(str(key), value) for key, value in item.items()}
    return item


def _level(name: str) -> int:
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ValueError(f"log_level is {name!r}: use debug, info, warning, error or critical.")
    return level
