"""Runs one step of a build, in a gVisor sandbox of its own.

The stacked layers below are the sandbox's root; what the step changes becomes the new layer. The sandbox has the
template's limits and is destroyed at the end of the step.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thawbox import guest, ids, processes
from thawbox.errors import BuildError, GuestFault, MachineDiskFull, RuntimeFault
from thawbox.node import spec
from thawbox.node.cgroups import ResourceLimits
from thawbox.node.container import Container, while_alive
from thawbox.node.runtime import Runtime
from thawbox.snapshots import layers
from thawbox.snapshots.layers import Layer
from thawbox.snapshots.start import introduce
from thawbox.templates.recipe import AptStep, CopyStep, RunStep
from thawbox.util import full_disk

from . import overlay
from .job import WriteLog
from .plan import PlannedStep, StepSetting
from .step_output import LineWriter
from .whiteouts import remove_pointless

_APT = (
    "export DEBIAN_FRONTEND=noninteractive; "
    "command -v apt-get >/dev/null || {{ echo 'this base image has no apt-get: use a run step' >&2; exit 127; }}; "
    "apt-get update -qq && apt-get install -y -qq {packages} && apt-get clean"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What all steps of a build share."""

    node: Runtime
    limits: ResourceLimits
    disk_gb: int
    host_env: dict[str, str]
    """variables of every command, below what the recipe sets"""
    timeout_s: int
    """of one command"""
    log_max_bytes: int
    """of one command's output in the log"""
    log: WriteLog


async def run_step(
    context: StepContext,
    planned: PlannedStep,
    below: Sequence[Layer],
    key: str,
    image: Path | None,
    open_files: Callable[[], Iterator[bytes]] | None,
) -> Layer:
    """Run the step on top of ``below`` and publish what it changed as the layer of ``key``.

    ``image``: an EROFS image of ``below``, if there is one. ``open_files`` gives the plain tar of a COPY step's files.

    Raises:
        BuildError: the step failed; its message has the reason and the last lines.
    """
    tmp = context.node.layout.tmp / f"layer-{secrets.token_hex(8)}"
    tmp.mkdir()
    try:
        async with overlay.mounted(context.node.layout, below) as tree:
            async with context.node.running(
                ids.sandbox_id(),
                root=_root(context, tree, image),
                limits=context.limits,
                disk_gb=context.disk_gb,
            ) as container:
                with explained(context, container):
                    await while_alive(container, _work(context, container, planned, open_files))
                    await context.node.tar_upper(container, tmp / "layer.tar")
            await _unpack(tmp)
            await asyncio.to_thread(remove_pointless, tmp / "fs", tree)
        return layers.publish(context.node.layout, key, tmp, {"title": planned.title})
    finally:
        await asyncio.to_thread(shutil.rmtree, tmp, ignore_errors=True)


def _root(context: StepContext, tree: Path, image: Path | None) -> spec.Directory | spec.Erofs:
    if image is None:
        return spec.Directory(path=tree)
    return spec.Erofs(image=image, upper=context.node.layout.upper, disk_gb=context.disk_gb)


async def _work(
    context: StepContext,
    container: Container,
    planned: PlannedStep,
    open_files: Callable[[], Iterator[bytes]] | None,
) -> None:
    await introduce(container.endpoint, hostname="build", template_env={}, env={})
    await _make_workdir(container, planned.setting)
    if isinstance(planned.step, CopyStep):
        assert open_files is not None
        await _copy(container, planned.step, planned.setting, open_files)
    else:
        await _command(context, container, planned)


async def _make_workdir(container: Container, setting: StepSetting) -> None:
    if setting.workdir != "/":
        await guest.mkdir(container.endpoint, setting.workdir, parents=True)


async def _copy(
    container: Container, step: CopyStep, setting: StepSetting, open_files: Callable[[], Iterator[bytes]]
) -> None:
    try:
        await guest.place(
            container.endpoint,
            _in_thread(open_files()),
            dest=step.dest,
            cwd=setting.workdir,
            owner=step.owner,
            permissions=None if step.permissions is None else f"{step.permissions:o}",
        )
    except guest.GuestError as error:
        raise BuildError(f"COPY to {step.dest}: {error}") from error


async def _command(context: StepContext, container: Container, planned: PlannedStep) -> None:
    match planned.step:
        case RunStep(command=command):
            line, user = command, planned.setting.user
        case AptStep(packages=packages):
            line, user = _APT.format(packages=shlex.join(packages)), None
        case _:
            raise AssertionError(planned.step)
    env = {**context.host_env, **planned.setting.env}
    await run_command(
        context, container, line, env=env, cwd=planned.setting.workdir, user=user, timeout_s=context.timeout_s
    )


async def run_command(
    context: StepContext,
    container: Container,
    line: str,
    *,
    env: dict[str, str],
    cwd: str,
    user: str | None,
    timeout_s: float,
) -> None:
    """Run a shell line in the container, its output into the build's log.

    Raises:
        BuildError: it ended with another status than 0, or not in time.
    """
    output = LineWriter(lambda text: context.log("INFO", text), context.log_max_bytes)
    began = time.monotonic()
    code, timed_out = -1, False
    try:
        async with guest.spawn(
            container.endpoint, shell=line, env=env, cwd=cwd, user=user, timeout=timeout_s
        ) as running:
            async for event in running:
                match event:
                    case guest.Stdout(data=data) | guest.Stderr(data=data):
                        output.write(data)
                    case guest.Exit():
                        code, timed_out = event.code, event.timed_out
    except guest.GuestError as error:
        raise BuildError(str(error)) from error
    finally:
        output.close()
    if timed_out:
        raise BuildError(
            f"the command was stopped after {time.monotonic() - began:.0f} s "
            f"(limit {timeout_s:.0f} s)" + output.last_lines()
        )
    if code != 0:
        reason = output.last_lines()
        if full_disk.is_full_disk(reason):
            reason += (
                f"\nThe template's disk of {context.disk_gb} GB is full (give it more with `diskGB`), or the server's "
                "that it lies on"
            )
        raise BuildError(f"exit status {code}" + reason)


@contextlib.contextmanager
def explained(context: StepContext, container: Container) -> Iterator[None]:
    """Name the reason when the step's sandbox fails.

    Raises:
        BuildError: it ran out of memory, the agent refused, a disk is full, or it died for another reason.
    """
    try:
        yield
    except (GuestFault, RuntimeFault, OSError, guest.GuestError) as error:
        if container.out_of_memory:
            raise BuildError(
                f"out of memory: the step needed more than the template's {context.limits.memory_mb} MB; "
                "give the template more with `memory`"
            ) from error
        if isinstance(error, guest.GuestError | MachineDiskFull):
            raise BuildError(str(error)) from error
        if isinstance(error, OSError) and full_disk.is_full_disk(error):
            raise BuildError(str(MachineDiskFull())) from error
        console = container.bundle / "console"
        last = processes.tail(console.read_bytes(), 500) if console.exists() else ""
        raise BuildError(f"the step's sandbox died: {error} {last}".strip()) from error


async def _unpack(tmp: Path) -> None:
    (tmp / "fs").mkdir()
    await processes.run(
        [
            "tar",
            "--extract",
            "--file",
            tmp / "layer.tar",
            "--directory",
            tmp / "fs",
            "--xattrs",
            "--xattrs-include=trusted.overlay.*",
            "--same-permissions",
            "--same-owner",
            "--numeric-owner",
            "--delay-directory-restore",
        ],
        timeout_s=1800,
        die_with_parent=True,
    )
    (tmp / "layer.tar").unlink()


async def _in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read a blocking iterator without blocking the loop."""
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
