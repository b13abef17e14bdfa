"""Bringing a booted container to the state that its template promises: folders, environment, start command, ready.

Used before the freeze, and again when a sandbox has to boot cold.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping

from thawbox import guest
from thawbox.errors import BuildError
from thawbox.guest import Endpoint
from thawbox.guest.kernel import NO_IPYKERNEL, start_kernel
from thawbox.node import spec
from thawbox.node.firewall import GUEST_NAME_SERVER
from thawbox.node.runtime import Runtime
from thawbox.templates.recipe import ReadyCheck, ReadyKind

from . import manifest as versions
from .manifest import Version

START_LOG = "/var/log/thawbox-start.log"
"""Output of the start command, inside."""
_GRACE_S = 0.5
"""Without a ready check, a start command that fails does so in this time, or it is taken for running."""


def root_of(node: Runtime, version: Version) -> spec.Erofs:
    """The root that sandboxes of the version have."""
    return spec.Erofs(
        image=versions.image_path(node.layout, version), upper=node.layout.upper, disk_gb=version.disk_gb
    )


async def introduce(
    endpoint: Endpoint,
    *,
    hostname: str,
    template_env: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
    env_add: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> None:
    """Give the sandbox its identity: environment of all programs to come, fresh entropy, its name in /etc.

    ``env`` None: it keeps what it has, and ``env_add`` comes on top.

    The host name itself comes with the container (gVisor takes the new one at a thaw).
    """
    await guest.init(
        endpoint,
        template_env=template_env,
        env=env,
        env_add=env_add,
        hostname_file=hostname + "\n",
        entropy=secrets.token_bytes(64),
        hosts=f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n",
        resolv_conf=f"nameserver {GUEST_NAME_SERVER}\n",
        timeout=timeout,
    )


async def wake(endpoint: Endpoint) -> None:
    """After a thaw of a sandbox's own memory: fresh entropy. All else is as it was, and stays."""
    await guest.init(endpoint, entropy=secrets.token_bytes(64))


async def start_program(endpoint: Endpoint, version: Version) -> None:
    """Run the start command, wait until the ready check passes, and have warm what the recipe wants warm.

    Raises:
        BuildError: something failed or was not ready in time; with its last lines of output.
    """
    if version.workdir != "/":
        await guest.mkdir(endpoint, version.workdir, parents=True)
    pid = None
    if version.start_cmd is not None:
        pid = await guest.start(
            endpoint, shell=version.start_cmd, cwd=version.workdir, user=version.user, log=START_LOG
        )
    if version.ready is not None:
        await _wait_until_ready(endpoint, version, version.ready, pid)
    elif pid is not None:
        await asyncio.sleep(_GRACE_S)
        await _fail_if_dead(endpoint, pid)
    await _warm_up(endpoint, version)


async def _warm_up(endpoint: Endpoint, version: Version) -> None:
    """Start interpreters with modules, and the IPython kernel."""
    cwd = version.workdir if version.workdir != "/" else "/workspace"
    if version.warm:
        try:
            await guest.start_warm(
                endpoint, version.warm, user=version.user, cwd=cwd, memory=version.memory_mb * 2**20
            )
        except guest.GuestError as error:
            raise BuildError(f"the warm interpreters do not start: {error.message}") from error
    if version.kernel:
        done = await start_kernel(endpoint, user=version.user, cwd=cwd, wait=True)
        if done.exit_code == NO_IPYKERNEL or done.pid == 0:
            raise BuildError(
                "the recipe says 'kernel: true', but there is no ipykernel: pip3 install ipykernel first"
            )
        if done.exit_code != 0:
            raise BuildError(
                f"the IPython kernel does not start: {done.stderr.decode('utf-8', 'replace').strip()}"
            )


async def _wait_until_ready(endpoint: Endpoint, version: Version, check: ReadyCheck, pid: int | None) -> None:
    deadline = time.monotonic() + check.timeout_ms / 1000
    while True:
        if await _passes(endpoint, version, check, deadline - time.monotonic()):
            return
        if pid is not None:
            await _fail_if_dead(endpoint, pid)
        # The first looks come quickly, so that a service that is up at once is not waited for.
        pause = min(check.interval_ms / 1000, 0.25)
        if time.monotonic() + pause > deadline:
            raise BuildError(
                f"not ready: the ready check ({check.kind.value} {check.target}) did not pass "
                f"within {check.timeout_ms / 1000:g} s" + await _last_lines(endpoint)
            )
        await asyncio.sleep(pause)


async def _passes(endpoint: Endpoint, version: Version, check: ReadyCheck, left_s: float) -> bool:
    match check.kind:
        case ReadyKind.PORT:
            return await guest.probe(endpoint, "port", int(check.target))
        case ReadyKind.FILE | ReadyKind.PROCESS:
            return await guest.probe(endpoint, check.kind.value, check.target)
        case ReadyKind.URL:
            done = await guest.run(
                endpoint, argv=guest.url_probe_argv(check.target), timeout=max(1.0, min(left_s, 6.0))
            )
        case ReadyKind.COMMAND:
            done = await guest.run(
                endpoint,
                shell=check.target,
                cwd=version.workdir,
                user=version.user,
                timeout=max(1.0, left_s),
            )
    return done.exit_code == 0


async def _fail_if_dead(endpoint: Endpoint, pid: int) -> None:
    status = await guest.command_status(endpoint, pid)
    if status not in (None, 0):  # 0: it put itself into the background
        raise BuildError(f"the start command ended with status {status}" + await _last_lines(endpoint))


async def _last_lines(endpoint: Endpoint) -> str:
    try:
        size = (await guest.stat(endpoint, START_LOG)).size
        async with guest.read_file(endpoint, START_LOG, offset=max(0, size - 4096)) as (_, chunks):
            data = b"".join([chunk async for chunk in chunks])
    except guest.GuestError:
        return ""
    lines = data.decode("utf-8", "replace").strip().splitlines()[-20:]
    return "\n" + "\n".join(lines) if lines else ""
