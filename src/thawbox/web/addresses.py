"""Our own addresses, as the client that asks can reach them.

What clients make of them: docs/reference/compatibility/addresses.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.requests import Request

from thawbox.settings import Settings

INTERFACE_PORT = 7777
"""The port that stands for a sandbox's own interface in the vendor's host names."""
PORTS_PATH = "/ports/"
"""The address of programs inside without a domain: ``/ports/ID/PORT/…`` at the gateway."""

_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"(?:([1-9][0-9]{0,4})-)?([a-z0-9]{1,57})", re.ASCII)
_VENDOR = ".vms.hopx.dev"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class SandboxHost:
    """What a host name stands for: a program's port in a sandbox, or with None the sandbox's own interface."""

    sandbox_id: str
    port: int | None


def control_url(request: Request, settings: Settings) -> str:
    """The control plane's base, without a slash at the end: ``public_url``, else from the Host header."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host, port = _requested_host(request)
    if host is None:
        host, port = settings.host, str(settings.port)
    return f"{request.url.scheme}://{host}" + (f":{port}" if port else "")


def sandbox_url(request: Request, settings: Settings, sandbox_id: str) -> str:
    """A sandbox's own interface, without a slash at the end: a host name of its own if there is a domain."""
    if settings.domain is None:
        return _gateway_url(request, settings)  # one gateway for all: the token names the sandbox
    # The published clients make preview addresses of these names, if they look exactly so:
    # docs/reference/compatibility/addresses.md#preview-addresses.
    vendor = f".{settings.domain}".endswith(_VENDOR)
    return _below_domain(settings, f"{INTERFACE_PORT}-{sandbox_id}" if vendor else sandbox_id)


def ports_url(request: Request, settings: Settings, sandbox_id: str) -> str:
    """The address of programs inside, with ``{port}`` in place of the port."""
    if settings.domain is None:
        return f"{_gateway_url(request, settings)}{PORTS_PATH}{sandbox_id}/{{port}}/"
    return _below_domain(settings, f"{{port}}-{sandbox_id}") + "/"


def parse_host(host: str, settings: Settings) -> SandboxHost | None:
    """The sandbox and port that a Host header below ``settings.domain`` stands for; None for any other header.

    The forms are ``ID.DOMAIN``, ``PORT-ID.DOMAIN``, and both with the region before the domain.
    """
    shape = _HOST.fullmatch(host) if settings.domain else None
    if shape is None:
        return None
    label, _, parent = shape[1].lower().removesuffix(".").partition(".")
    if parent not in (settings.domain, f"{settings.region.lower()}.{settings.domain}"):
        return None
    match = _LABEL.fullmatch(label)
    if match is None or int(match[1] or 1) > 65535:
        return None
    port = int(match[1]) if match[1] else INTERFACE_PORT
    return SandboxHost(match[2], None if port == INTERFACE_PORT else port)


def _below_domain(settings: Settings, label: str) -> str:
    scheme, port = settings.domain_scheme, settings.domain_port
    if port is None:
        port = settings.gateway_port if scheme == "http" else _DEFAULT_PORTS[scheme]
    suffix = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{label}.{settings.domain}{suffix}"


def _gateway_url(request: Request, settings: Settings) -> str:
    if settings.gateway_url:
        return settings.gateway_url.rstrip("/")
    host, _ = _requested_host(request)
    return f"{request.url.scheme}://{host or settings.host}:{settings.gateway_port}"


def _requested_host(request: Request) -> tuple[str | None, str | None]:
    """Host and port of the Host header; None, None if it is missing or not a host name."""
    shape = _HOST.fullmatch(request.headers.get("host", ""))
    return (shape[1], shape[2]) if shape else (None, None)
