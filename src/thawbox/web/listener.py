"""A port that we listen on: uvicorn, with bounds on what a client may make us wait for and keep."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from thawbox.settings import Settings

STOP_S = 10
"""How long requests under way may take when the server stops."""
HEAD_S = 20.0
"""Until a request's head must be complete, from its first byte, or from the connection."""
BODY_S = 60.0
"""How long a body may stand still before it is answered."""
KEEP_S = 30
"""How long a connection stays open between requests: longer than clients keep one, who would lose a request else."""
HEAD_MAX = 64 * 1024
"""Bytes of a request's head."""


class Listener(uvicorn.Server):
    """uvicorn without its signal handling: whoever runs us decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def listener(settings: Settings, app: ASGIApp, port: int) -> Listener:
    """A server for ``app`` on ``settings.host`` and ``port``; runs while its ``serve()`` does."""
    return Listener(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            # h11 bounds the head, and refuses what two readers could understand in two ways.
            http=BoundedProtocol,
            h11_max_incomplete_event_size=HEAD_MAX,
            forwarded_allow_ips=list(settings.trusted_proxies),
            log_config=None,
            log_level="warning",  # what it says besides holds whole addresses, and so tokens
            access_log=False,
            server_header=False,
            lifespan="off",
            # Holds a client back that sends faster than we take, and can refuse an upgrade with a real answer.
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,  # a terminal's keystrokes only become slower
            timeout_keep_alive=KEEP_S,
            timeout_graceful_shutdown=STOP_S,
        )
    )


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with an end to waiting: for a head, and for a body that stands still."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there; it owes us a head."""
        super().connection_made(transport)
        self._wait(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Every byte restarts the patience with a body, but not with a head."""
        was_idle = self._is_idle() and self._deadline is None
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._wait(None)
        elif not self._is_idle():
            self._wait(BODY_S if self.cycle.more_body else None)
        elif was_idle:
            self._wait(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._wait(None)
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._due, seconds)

    def _due(self, seconds: float) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._is_idle():
            self.transport.abort()
        elif self.flow.read_paused:  # it is we who do not read
            self._wait(seconds)
        elif self.cycle.more_body and not self.cycle.response_started:
            self.transport.abort()
