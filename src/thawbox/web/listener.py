"""A port that the server listens on: uvicorn, with limits on the time and memory that a client can take."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from thawbox.settings import Settings

STOP_S = 10
"""Longest time for requests in progress when the server stops."""
HEAD_S = 20.0
"""Longest time for a request's head, from the connection or from the head's first byte."""
BODY_S = 60.0
"""Longest pause in a request's body."""
KEEP_S = 30
"""How long a connection stays open between requests. Longer than clients keep it, so that no client sends into a
connection that is being closed."""
HEAD_MAX = 64 * 1024
"""Most bytes of a request's head."""


class HttpServer(uvicorn.Server):
    """uvicorn without its signal handling: the caller decides when to stop."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


def listener(settings: Settings, app: ASGIApp, port: int) -> HttpServer:
    """A server for ``app`` on ``settings.host`` and ``port``; runs while its ``serve()`` does."""
    return HttpServer(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            # h11 limits the head, and refuses what two readers could read differently.
            http=BoundedProtocol,
            h11_max_incomplete_event_size=HEAD_MAX,
            forwarded_allow_ips=list(settings.trusted_proxies),
            log_config=None,
            log_level="warning",  # its other lines have whole addresses, and so tokens
            access_log=False,
            server_header=False,
            lifespan="off",
            # Slows a client down that sends too fast, and can refuse an upgrade with an ordinary answer.
            ws="websockets-sansio",
            ws_max_size=settings.max_body_bytes,
            ws_per_message_deflate=False,  # it only slows a terminal's keystrokes
            timeout_keep_alive=KEEP_S,
            timeout_graceful_shutdown=STOP_S,
        )
    )


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 with timeouts for a request's head and for pauses in its body."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first head."""
        super().connection_made(transport)
        self._set_timeout(HEAD_S)

    def data_received(self, data: bytes) -> None:
        """Every byte restarts the timeout of a body, but not that of a head."""
        was_idle = self._is_idle() and self._deadline is None
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            self._set_timeout(None)
        elif not self._is_idle():
            self._set_timeout(BODY_S if self.cycle.more_body else None)
        elif was_idle:
            self._set_timeout(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._set_timeout(None)
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _set_timeout(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._on_timeout, seconds)

    def _on_timeout(self, seconds: float) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._is_idle():
            self.transport.abort()
        elif self.flow.read_paused:  # the server has paused reading
            self._set_timeout(seconds)
        elif self.cycle.more_body and not self.cycle.response_started:
            self.transport.abort()
