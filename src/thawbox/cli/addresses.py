"""``thaw url`` and ``thaw forward``: reach programs inside a sandbox, with a browser and over TCP."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote, urlencode

import click
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from .client import Server, is_loopback
from .client import connect as connect_server
from .failure import Failure

_PORT = click.IntRange(1, 65535)
_END = "end"
_PIECE = 64 * 1024


def both_ports(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int | None, int]:
    """Callback for ``[LOCAL:]PORT``: the local port, None if it was not given, and the port inside.

    Raises:
        click.BadParameter: the value is not of this form, or is not a port.
    """
    words = value.split(":")
    if len(words) > 2 or not all(re.fullmatch("[0-9]{1,5}", word, re.ASCII) for word in words):
        raise click.BadParameter(f"{value!r} should be PORT or LOCAL:PORT", ctx=context, param=parameter)
    numbers = [int(word) for word in words]
    if max(numbers) > 65535 or not numbers[-1]:
        raise click.BadParameter(f"{value!r}: a port is 1 to 65535", ctx=context, param=parameter)
    return (numbers[0] if len(numbers) == 2 else None), numbers[-1]


@click.command(short_help="Print the address of a port inside a sandbox.")
@click.argument("sandbox")
@click.argument("port", type=_PORT)
@click.option("--token", is_flag=True, help="Put the sandbox's token into the address, for a browser.")
def url(sandbox: str, port: int, token: bool) -> None:
    """Print the address of the program that listens on PORT inside SANDBOX.

    Standard error says whether the port is public or private.

    \b
    Examples:
      thaw url 1763291715051artmzuqw 8000
      xdg-open "$(thaw url 1763291715051artmzuqw 8000 --token)"
    """
    with connect_server() as server:
        record = _sandbox(server, sandbox)
        address = str(record["preview_url"]).replace("{port}", str(port))
        public = record.get("public_ports") is True or port in (record.get("public_ports") or [])
        by_path = "/ports/" in address
        if token and by_path:
            raise Failure(
                "Browsers need a host name for each sandbox: set THAWBOX_DOMAIN in the server's environment."
            )
        if token:
            address += "?" + urlencode({"token": _token(server, sandbox)})
    if public:
        click.echo("Public: everybody who can reach the server can open it.", err=True)
    elif not token:
        in_browser = "" if by_path else " For a browser, use the address that --token prints."
        click.echo(f"Private: send 'Authorization: Bearer TOKEN'.{in_browser}", err=True)
    click.echo(address)


@click.command(short_help="Forward a local TCP port into a sandbox.")
@click.argument("sandbox")
@click.argument("ports", callback=both_ports, metavar="[LOCAL:]PORT")
def forward(sandbox: str, ports: tuple[int | None, int]) -> None:
    """Forward connections to a port of this machine to PORT inside SANDBOX, until Ctrl-C.

    The port is on 127.0.0.1. Without LOCAL it has the number PORT, or any free number if that one is taken.

    \b
    Examples:
      thaw forward 1763291715051artmzuqw 15432:5432    then: psql -h 127.0.0.1 -p 15432
      thaw forward 1763291715051artmzuqw 8000
    """
    with connect_server() as server:
        record = _sandbox(server, sandbox)
        tunnel = _Tunnel(server, sandbox, str(record["public_host"]), ports[1])
        asyncio.run(_listen(tunnel, ports[0]))


class _Tunnel:
    """Opens one WebSocket per connection. If the gateway refuses the token, a new one is fetched."""

    def __init__(self, server: Server, sandbox: str, public_host: str, port: int) -> None:
        self._server = server
        self._sandbox = sandbox
        self._url = f"ws{public_host.removeprefix('http').rstrip('/')}/tcp/{port}"
        self._direct = is_loopback(public_host)
        self._token: str | None = None
        self.port = port

    async def open(self) -> ClientConnection:
        """A new WebSocket to the port inside.

        Raises:
            Failure: the gateway refuses it or does not answer; the message has the reason.
        """
        try:
            return await self._open()
        except InvalidStatus as error:
            if error.response.status_code != 401:
                raise Failure(_reason(error)) from error
        self._token = None
        try:
            return await self._open()
        except InvalidStatus as error:
            raise Failure(_reason(error)) from error

    async def _open(self) -> ClientConnection:
        if self._token is None:
            self._token = await asyncio.to_thread(_token, self._server, self._sandbox)
        try:
            return await connect(
                self._url,
                additional_headers={"Authorization": f"Bearer {self._token}"},
                compression=None,
                max_size=None,
                max_queue=4,
                proxy=None if self._direct else True,
            )
        except InvalidStatus:
            raise
        except (OSError, WebSocketException) as error:
            raise Failure(f"{self._url} does not answer: {error}.") from error


async def _listen(tunnel: _Tunnel, local: int | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            websocket = await tunnel.open()
        except Failure as error:
            click.echo(f"thaw: {error.message}", err=True)
            writer.transport.abort()
            return
        try:
            await _relay(websocket, reader, writer)
            writer.close()
        except* (OSError, WebSocketException):
            writer.transport.abort()  # a reset, so that the client does not take this for a proper end
        finally:
            await websocket.close()

    server = await _bind(serve, tunnel.port if local is None else local, or_any=local is None)
    port = server.sockets[0].getsockname()[1]
    click.echo(f"127.0.0.1:{port} -> {tunnel.port} in the sandbox. Ctrl-C ends it.", err=True)
    await (
        asyncio.Event().wait()
    )  # for ever; serve_forever() would wait for open connections when it is cancelled


async def _bind(serve: Any, port: int, *, or_any: bool) -> asyncio.Server:
    try:
        return await asyncio.start_server(serve, "127.0.0.1", port)
    except OSError as error:
        if not or_any:
            raise Failure(f"Port {port} of this machine cannot be used: {error.strerror}.") from error
    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def _relay(
    websocket: ClientConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes on in both directions, until both sides have sent their end or one connection is lost.

    Raises:
        ExceptionGroup: of OSError and WebSocketException: a connection was lost.
    """

    async def inward() -> None:
        while data := await reader.read(_PIECE):
            await websocket.send(data)
        await websocket.send(_END)

    async def outward() -> None:
        async for message in websocket:
            if isinstance(message, str):
                if message == _END and writer.can_write_eof():
                    writer.write_eof()
                return
            writer.write(message)
            await writer.drain()
        raise ConnectionResetError  # the end message is missing, so data may be missing

    async with asyncio.TaskGroup() as ways:
        ways.create_task(inward())
        ways.create_task(outward())


def _sandbox(server: Server, sandbox: str) -> dict[str, Any]:
    return server.call("GET", f"/v1/sandboxes/{quote(sandbox, safe='')}")


def _token(server: Server, sandbox: str) -> str:
    refreshed = server.call("POST", f"/v1/sandboxes/{quote(sandbox, safe='')}/token/refresh")
    return str(refreshed["auth_token"])


def _reason(error: InvalidStatus) -> str:
    try:
        return str(json.loads(error.response.body or b"")["message"])
    except (ValueError, KeyError, TypeError):
        return f"the gateway answered {error.response.status_code}."
