"""Talking to the agent inside a sandbox, from outside.

One connection per operation. Cancelling a task closes its connection, which ends the command inside.
Everything that a guest says is bounded and checked: it may be hostile.

What the agent refuses is a ``GuestError`` with the agent's code; silence or nonsense is a ``GuestFault``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from thawbox.errors import GuestFault
from thawbox.guest.channel import QUICK_S, Endpoint, GuestError, Object, ask, deadline, field
from thawbox.guest.client_asking import ask_program
from thawbox.guest.client_commands import (
    Completed,
    Event,
    Exit,
    Process,
    Stderr,
    Stdout,
    Value,
    command_status,
    run,
    send_signal,
    spawn,
    start,
)
from thawbox.guest.client_environment import change_env, environment
from thawbox.guest.client_files import (
    FileInfo,
    list_dir,
    mkdir,
    place,
    read_file,
    receive_file,
    remove,
    stat,
    write_file,
)
from thawbox.guest.client_jobs import Job, job, jobs, kill, start_job
from thawbox.guest.client_machine import ProcessInfo, System, describe, processes
from thawbox.guest.client_terminals import Terminal, terminal
from thawbox.guest.client_warm import warm
from thawbox.guest.client_watch import Change, watch
from thawbox.guest.image import INTERPRETER_ARGV

__all__ = [
    "Change",
    "Completed",
    "Endpoint",
    "Event",
    "Exit",
    "FileInfo",
    "GuestError",
    "Job",
    "Process",
    "ProcessInfo",
    "Stderr",
    "Stdout",
    "System",
    "Terminal",
    "Value",
    "ask_program",
    "change_env",
    "command_status",
    "describe",
    "environment",
    "init",
    "job",
    "jobs",
    "kill",
    "list_dir",
    "mkdir",
    "ping",
    "place",
    "probe",
    "processes",
    "quiesce",
    "read_file",
    "receive_file",
    "remove",
    "renew",
    "run",
    "send_signal",
    "spawn",
    "start",
    "start_job",
    "stat",
    "terminal",
    "url_probe_argv",
    "usage",
    "wait_ready",
    "warm",
    "watch",
    "write_file",
]


async def ping(endpoint: Endpoint, *, timeout: float = QUICK_S) -> Object:
    """``pid``, ``uptime`` (seconds) and ``time`` (seconds since 1970) of the agent."""
    return await ask(endpoint, "ping", {}, timeout)


async def wait_ready(
    endpoint: Endpoint, timeout: float, greet: Callable[[], Awaitable[object]] | None = None
) -> None:
    """Return as soon as the agent answers: to ``greet`` if given (it may be called often), else to ``ping``.

    Raises:
        GuestFault: it has not within ``timeout`` seconds, or it refuses us.
    """
    ask = greet if greet is not None else lambda: ping(endpoint, timeout=1.0)
    pause = 0.001
    last: Exception | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await ask()
                except GuestError as error:
                    raise GuestFault(f"the agent at {endpoint.host} refuses us: {error}") from error
                except GuestFault as error:
                    last = error
                else:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, 0.01)
    except TimeoutError:
        reason = last.message if isinstance(last, GuestFault) else "it accepts no connection"
        raise GuestFault(f"the agent did not answer within {timeout:g} s: {reason}") from None


async def init(
    endpoint: Endpoint,
    *,
    env: Mapping[str, str] | None = None,
    template_env: Mapping[str, str] | None = None,
    env_add: Mapping[str, str] | None = None,
    hostname: str | None = None,
    entropy: bytes | None = None,
    sandbox_id: str | None = None,
    hosts: str | None = None,
    hostname_file: str | None = None,
    resolv_conf: str | None = None,
    name_servers: Sequence[str] | None = None,
    timeout: float = QUICK_S,
) -> None:
    """Give the sandbox its identity. ``env`` lies on top of ``template_env``; ``env_add`` adds to it.

    ``hosts``, ``hostname_file`` and ``resolv_conf`` are whole files; None leaves things as they are.
    """
    fields: Object = {
        "env": None if env is None else dict(env),
        "template_env": None if template_env is None else dict(template_env),
        "env_add": dict(env_add) if env_add else None,
        "hostname": hostname,
        "entropy": entropy.hex() if entropy else None,
        "sandbox_id": sandbox_id,
        "hosts": hosts,
        "hostname_file": hostname_file,
        "resolv_conf": resolv_conf,
        "name_servers": list(name_servers) if name_servers else None,
    }
    await ask(endpoint, "init", fields, timeout)


async def probe(endpoint: Endpoint, kind: str, target: int | str, *, timeout: float = QUICK_S) -> bool:
    """Whether a ``port`` accepts connections, a ``file`` exists, or a ``process`` of that name runs."""
    return field(await ask(endpoint, "probe", {"kind": kind, "target": target}, timeout), "ok", bool)


def url_probe_argv(url: str) -> tuple[str, ...]:
    """A command that exits with 0 if ``url`` answers 200 within 5 seconds, seen from inside; for ``run``.

    It uses the agent's own interpreter, so the image needs no tool for it.
    """
    script = (
        "import sys,urllib.request as r\n"
        "try:\n sys.exit(r.urlopen(sys.argv[1],timeout=5).status!=200)\n"
        "except Exception as e:\n print(e,file=sys.stderr);sys.exit(1)"
    )
    return (*INTERPRETER_ARGV, "-c", script, url)


async def usage(endpoint: Endpoint, *, timeout: float = QUICK_S) -> Object:
    """``memory_total``, ``memory_used``, ``disk_total``, ``disk_used`` (bytes), ``load`` (1, 5, 15 minutes),
    ``cpus``, ``processes``."""
    answer = await ask(endpoint, "usage", {}, timeout)
    for name in ("memory_total", "memory_used", "disk_total", "disk_used", "cpus", "processes"):
        field(answer, name, int)
    load = answer.get("load")
    if (
        not isinstance(load, list)
        or len(load) != 3
        or not all(isinstance(value, int | float) for value in load)
    ):
        raise GuestFault("the agent's answer has no load of three numbers")
    return answer


async def quiesce(endpoint: Endpoint, *, timeout: float = 60.0) -> None:
    """Make the guest ready for the freeze. When this returns, the agent has no connection open for us."""
    await ask(endpoint, "quiesce", {}, timeout)


async def renew(endpoint: Endpoint, *, timeout: float = 10.0) -> None:
    """Have the agent forget all that it was told, the secret too; returns when it listens again.

    Raises:
        GuestError: UNKNOWN_OPERATION: the agent is too old for that.
        GuestFault: it does not.
    """
    await ask(endpoint, "renew", {}, timeout)
    async with deadline(timeout):
        while True:
            try:
                await ask(endpoint, "ping", {}, timeout)
            except GuestError:
                return  # it listens, and does not know us
            except GuestFault:
                await asyncio.sleep(0.01)
            else:
                await asyncio.sleep(0.01)  # it is the old one still
