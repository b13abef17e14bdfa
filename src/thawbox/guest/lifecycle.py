"""The agent itself: whether it answers, its sandbox's identity, preparing for a freeze, forgetting a sandbox."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, GuestError, call, deadline
from .fields import Object, field


async def ping(endpoint: Endpoint, *, timeout: float = QUICK_S) -> Object:
    """``pid``, ``uptime`` (seconds), ``time`` (seconds since 1970) and protocol ``version`` of the agent.

    The version is 0 for agents from before versions were counted (see ``operations``).
    """
    answer = await call(endpoint, "ping", {}, timeout)
    if "version" in answer:
        field(answer, "version", int)
    return {"version": 0, **answer}


async def wait_ready(
    endpoint: Endpoint, timeout: float, greet: Callable[[], Awaitable[object]] | None = None
) -> None:
    """Return as soon as the agent answers: to ``greet`` if given (it may be called often), else to ``ping``.

    Raises:
        GuestFault: it has not answered within ``timeout`` seconds, or it refuses the request.
    """
    attempt = greet if greet is not None else lambda: ping(endpoint, timeout=1.0)
    pause = 0.001
    last: Exception | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await attempt()
                except GuestError as error:
                    raise GuestFault(f"the agent at {endpoint.host} refuses the request: {error}") from error
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
    entropy: bytes | None = None,
    hosts: str | None = None,
    hostname_file: str | None = None,
    resolv_conf: str | None = None,
    timeout: float = QUICK_S,
) -> None:
    """Give the sandbox its identity. ``env`` overrides ``template_env``; ``env_add`` is added to ``env``.

    ``hosts``, ``hostname_file`` and ``resolv_conf`` are the contents of files. None leaves things as they are.
    """
    fields: Object = {
        "env": None if env is None else dict(env),
        "template_env": None if template_env is None else dict(template_env),
        "env_add": dict(env_add) if env_add else None,
        "entropy": entropy.hex() if entropy else None,
        "hosts": hosts,
        "hostname_file": hostname_file,
        "resolv_conf": resolv_conf,
    }
    await call(endpoint, "init", fields, timeout)


async def quiesce(endpoint: Endpoint, *, timeout: float = 60.0) -> None:
    """Prepare the sandbox for the freeze. After this returns, the agent has no open connection."""
    await call(endpoint, "quiesce", {}, timeout)


async def renew(endpoint: Endpoint, *, timeout: float = 10.0) -> None:
    """Have the agent forget everything that it was sent, the secret too; returns when it listens again.

    Raises:
        GuestError: UNKNOWN_OPERATION: the agent is too old.
        GuestFault: it does not listen again within ``timeout`` seconds.
    """
    await call(endpoint, "renew", {}, timeout)
    async with deadline(timeout):
        while True:
            try:
                await call(endpoint, "ping", {}, timeout)
            except GuestError:
                return  # it listens, and the old secret is not valid any more
            except GuestFault:
                await asyncio.sleep(0.01)
            else:
                await asyncio.sleep(0.01)  # it is still the old agent
