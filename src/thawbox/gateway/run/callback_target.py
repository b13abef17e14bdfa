"""Where a callback may go. Users choose the address, and must not reach the server's own network through it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx

from thawbox.errors import UserError

URL_MAX = 2048
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RESOLVE_S = 10.0


class AddressNotAllowed(Exception):
    """The server must not connect to the address; the message gives the reason."""


def networks(settings: Sequence[str]) -> tuple[Network, ...]:
    """The networks of the setting ``callback_allow``.

    Raises:
        ValueError: one of them is not a network.
    """
    return tuple(ipaddress.ip_network(text, strict=False) for text in settings)


def check_url(text: str, allowed: Sequence[Network]) -> httpx.URL:
    """``text`` as a URL that may be called, as far as this is known without a name server.

    Raises:
        UserError: it is not an http or https URL, or names an address that is not allowed.
    """
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise UserError(f"Field 'callback_url' is not a URL: {text[:100]!r}.") from None
    has_valid_port = url.port is None or 0 < url.port < 65536
    if url.scheme not in ("http", "https") or not url.host or not has_valid_port or len(text) > URL_MAX:
        raise UserError(
            f"Field 'callback_url' must be an http or https URL of at most {URL_MAX} characters, "
            f"not {text[:100]!r}."
        )
    if url.userinfo:
        raise UserError("Field 'callback_url' must not contain a password: use 'callback_headers'.")
    literal = _literal(url.host)
    if literal is not None:
        try:
            check_address(literal, allowed)
        except AddressNotAllowed as error:
            raise UserError(f"Field 'callback_url': {error}.") from error
    return url


async def resolve(url: httpx.URL, allowed: Sequence[Network]) -> Address:
    """The address to connect to. All addresses of a name must be allowed, so that nothing is gained by trying again.

    Raises:
        AddressNotAllowed: one of them is not allowed. OSError, TimeoutError: the name has no address.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_RESOLVE_S):
        found = await loop.getaddrinfo(url.host, None, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(entry[4][0]) for entry in found]
    for address in addresses:
        check_address(address, allowed)
    return addresses[0]


def check_address(address: Address, allowed: Sequence[Network]) -> None:
    """Check that the server may connect to ``address``.

    Raises:
        AddressNotAllowed: it is loopback, private, link-local, multicast or reserved, or this
            machine's own, and in none of ``allowed``.
    """
    inner = _embedded(address)
    if any(inner.version == network.version and inner in network for network in allowed):
        return
    if not inner.is_global or inner.is_multicast or _is_own(inner):
        raise AddressNotAllowed(
            f"{address} is not a public address: ask the operator to add its network to THAWBOX_CALLBACK_ALLOW"
        )


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _is_own(address: Address) -> bool:
    """Whether ``address`` is this machine's: only such a one can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _literal(host: str) -> Address | None:
    """The address that ``host`` spells, also as the old C functions read it (127.1, 0x7f000001)."""
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None
