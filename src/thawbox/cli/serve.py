"""``thaw serve``: runs the server in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path

import click

from thawbox.machine.doctor import port_is_taken, server_runs
from thawbox.settings import Settings, load
from thawbox.util import atomic

from .client import LOCAL_KEY
from .failure import Failure
from .keys import DEFAULT_ORGANIZATION, create_key, key_works
from .options import state_option


@click.command(short_help="Run the server in the foreground.")
@click.option(
    "--host", metavar="ADDRESS", help="The address to listen on.  [default: THAWBOX_HOST, else 127.0.0.1]"
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="The API's port; 0: any.  [default: THAWBOX_PORT, else 7070]",
)
@click.option(
    "--gateway-port",
    type=click.IntRange(0, 65535),
    help="The sandboxes' port; 0: any.  [default: THAWBOX_GATEWAY_PORT, else 7777]",
)
@state_option
def serve(host: str | None, port: int | None, gateway_port: int | None, state: Path | None) -> None:
    """Run the server in the foreground until Ctrl-C or SIGTERM.

    At its first start the server creates an API key for this machine and writes it to the state folder, readable by
    root only. The other commands find it there. To create keys for other users: thaw keys create.

    Only this machine can reach the server, unless you set --host. Over plain HTTP, keys travel in clear text: put a TLS
    proxy in front of the server before you open it to a network.

    \b
    Examples:
      sudo thaw serve
      sudo thaw serve --port 8080 --gateway-port 8081 --state /srv/thawbox
    """
    settings = load(host=host, port=port, gateway_port=gateway_port, state=state)
    if os.geteuid() != 0:
        raise Failure(
            "The server must run as root, because it makes namespaces, mounts and cgroups. Run: sudo thaw serve"
        )
    if server_runs(settings.state):
        raise Failure(
            f"Another server uses {settings.state}. Stop it first, or name another folder with --state DIR."
        )
    settings = _with_ports(settings)
    key_file = ensure_local_key(settings)
    asyncio.run(_serve_until_signal(settings, key_file))


def ensure_local_key(settings: Settings) -> Path:
    """The file with the key for this machine. It gets a new key if it is missing or its key was revoked."""
    path = settings.state / LOCAL_KEY
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        key = ""
    if not key or not asyncio.run(key_works(settings, key)):
        key = asyncio.run(create_key(settings, DEFAULT_ORGANIZATION))
        atomic.write_text(path, key + "\n", mode=0o600, durable=True)
    return path


def _with_ports(settings: Settings) -> Settings:
    """``settings`` with both ports set to numbers that are free now.

    Raises:
        Failure: a port is taken, or the address is not one of this machine.
    """
    chosen = {}
    for name, flag in (("port", "--port"), ("gateway_port", "--gateway-port")):
        wanted = getattr(settings, name)
        try:
            taken = wanted != 0 and port_is_taken(settings.host, wanted)
        except OSError as error:
            raise Failure(
                f"Cannot listen on {settings.host}: {error.strerror or error}. "
                "Name an address of this machine with --host."
            ) from error
        if taken:
            raise Failure(
                f"Port {wanted} on {settings.host} is taken by another program. Name another with {flag}."
            )
        chosen[name] = wanted or free_port(settings.host)
    return settings.model_copy(update=chosen)


def free_port(host: str) -> int:
    """A TCP port of ``host`` that is free now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


async def _serve_until_signal(settings: Settings, key_file: Path) -> None:
    from thawbox import processes, server

    processes.watch_by_pidfd()
    serving = asyncio.ensure_future(server.serve(settings))
    banner = asyncio.ensure_future(_announce(settings, key_file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        click.echo("Stopped.", err=True)
    finally:
        banner.cancel()


async def _announce(settings: Settings, key_file: Path) -> None:
    """Print the addresses of the server as soon as it listens."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    for port in (settings.port, settings.gateway_port):
        await _wait_for(host, port)
    display_host = f"[{settings.host}]" if ":" in settings.host else settings.host
    click.echo(
        f"Thawbox listens on http://{display_host}:{settings.port} (API) and "
        f"http://{display_host}:{settings.gateway_port} (sandboxes).\n"
        f"State: {settings.state}. Key for this machine: {key_file}. Ctrl-C stops the server.",
        err=True,
    )


async def _wait_for(host: str, port: int) -> None:
    while True:
        try:
            _reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
