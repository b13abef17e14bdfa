"""What happens around every request: id, headers, errors, metrics, log line. Pure ASGI, for speed."""

from __future__ import annotations

import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from thawbox import log, metrics
from thawbox.errors import InternalFault, MachineDiskFull, RouteNotFound, ThawboxError, UnexpectedFault
from thawbox.util import full_disk

from . import context, errors
from .limits import RequestLimiter

_logger = log.get("http")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"))

SWITCHING = 101
_STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")


class RequestMiddleware:
    """The outermost layer.

    Every answer, also to an invalid request, gets ``X-Request-ID`` and the rate-limit headers; the code inside may put
    an ``Allowance`` into ``scope["state"]["allowance"]``. An answer that comes from a program in a
    sandbox (``scope["state"]["passed_on"]``) stays as it is. A ThawboxError becomes its envelope, any other
    exception a 500 with a log line that has the traceback and the same request id.
    """

    def __init__(self, app: ASGIApp, *, plane: str, limiter: RequestLimiter) -> None:
        self._app = app
        self._plane = plane
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = context.begin(scope)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        state = scope.setdefault("state", {})
        state["allowance"] = self._limiter.untouched()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.close" and not status:
                # The router knows no such path. The answer is that of every other request.
                raise RouteNotFound(f"There is no WebSocket at {scope['path'][:200]!r}.")
            if message["type"] in _STARTS:
                status = message.get("status", SWITCHING)
            if message["type"] in _STARTS and not state.get("passed_on"):
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id.encode("latin-1")),
                    *state["allowance"].headers(),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if status:
                if isinstance(error, WebSocketDisconnect):
                    return
                _logger.exception("answer broke off", path=scope["path"])
                raise
            answer = errors.response(self._known(error), gateway=self._plane == "gateway")
            await answer(scope, receive, send_with_headers)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    def _known(self, error: Exception) -> ThawboxError:
        if not isinstance(error, ThawboxError) and full_disk.is_full_disk(error):
            full = MachineDiskFull()
            full.__cause__ = error
            error = full
        if not isinstance(error, ThawboxError):
            metrics.REQUEST_FAULTS.labels(self._plane).inc()
            _logger.error("request broke", exc_info=error)
            return UnexpectedFault()
        if isinstance(error, InternalFault):
            metrics.REQUEST_FAULTS.labels(self._plane).inc()
            _logger.warning("request failed", error=error.message, code=error.code, exc_info=error.__cause__)
        return error

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = _method(scope)
        metrics.REQUEST_SECONDS.labels(self._plane, method, route, status).observe(seconds)
        _logger.debug("request", method=method, path=scope["path"], status=status, seconds=seconds)


def _method(scope: Scope) -> str:
    # A client can invent methods, and each would be a time series.
    method: str = scope.get("method", "WEBSOCKET")
    return method if method in _METHODS else "other"
