"""Our own addresses, as the client that asks can reach them (contract G)."""

from __future__ import annotations

import re

from starlette.requests import Request

from thawbox.settings import Settings

_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)


def control_url(request: Request, settings: Settings) -> str:
    """The control plane's base, without a slash at the end: ``public_url``, else from the Host header."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host, port = _asked_host(request)
    if host is None:
        host, port = settings.host, str(settings.port)
    return f"{request.url.scheme}://{host}" + (f":{port}" if port else "")


def gateway_url(request: Request, settings: Settings) -> str:
    """The gateway's base, without a slash at the end: ``gateway_url``, else asked host and gateway port."""
    if settings.gateway_url:
        return settings.gateway_url.rstrip("/")
    host, _ = _asked_host(request)
    return f"{request.url.scheme}://{host or settings.host}:{settings.gateway_port}"


def _asked_host(request: Request) -> tuple[str | None, str | None]:
    """Host and port that the client used; a header that is no host name counts as absent."""
    shape = _HOST.fullmatch(request.headers.get("host", ""))
    return (shape[1], shape[2]) if shape else (None, None)
