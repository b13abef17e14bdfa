"""Calls of runsc.

The command line is the interface that gVisor keeps stable. All top-level flags of ``create`` have to be given
again at ``restore``, so there is one set for everything.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thawbox import processes

from . import reaper

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""All that a sandbox's host processes get of an environment: ours may hold secrets."""

_JOIN_AND_EXEC = """
for file in $THAWBOX_CGROUPS; do echo $$ > "$file" || exit 1; done
unset THAWBOX_CGROUPS
exec setpriv --pdeathsig=KILL "$@"
"""
"""Enters the prepared cgroups, then becomes runsc: sandbox and gofer inherit them (60-85 ms cheaper than letting
runsc make the cgroup itself). A command that outlived the server would make what nobody knows of."""


@dataclass(frozen=True, slots=True)
class Runsc:
    """The runtime: its binary, its records, and the folder for writable layers."""

    binary: Path
    root: Path
    upper: Path
    digest: str
    """sha256 of the binary. A memory snapshot restores only with the very build that made it."""

    def _argv(self, *arguments: str | os.PathLike[str], upper_gb: int | None = None) -> list[str]:
        size = f",size={upper_gb}g" if upper_gb else ""
        return [
            str(self.binary),
            f"--root={self.root}",
            "--platform=systrap",
            "--network=sandbox",
            "--ignore-cgroups",
            "--directfs=false",
            "--allow-suid",
            "--host-uds=none",
            f"--overlay2=root:dir={self.upper}{size}",
            *(os.fspath(argument) for argument in arguments),
        ]

    async def create(
        self,
        container_id: str,
        bundle: Path,
        *,
        secret: str,
        cgroup_files: Sequence[Path] = (),
        upper_gb: int,
    ) -> None:
        """Create the container from ``bundle``: process, gofer and network are ready, nothing runs yet.

        ``secret`` waits in the pipe that will be the first process' standard input. Its output is appended to
        ``console`` in the bundle.

        Raises:
            RuntimeFault: runsc refused; nothing of the container is left.
        """
        read, write = os.pipe()
        try:
            os.write(write, secret.encode() + b"\n")
            await self._start(
                ["create", f"--bundle={bundle}", f"--pid-file={bundle / 'pid'}", container_id],
                bundle=bundle,
                container_id=container_id,
                stdin=read,
                cgroup_files=cgroup_files,
                upper_gb=upper_gb,
            )
        finally:
            os.close(read)
            os.close(write)

    async def start(self, container_id: str) -> None:
        """Let the created container's first process run."""
        await processes.run(self._argv("start", container_id))

    async def restore(self, container_id: str, bundle: Path, image: Path, *, upper_gb: int) -> None:
        """Load the memory snapshot in the folder ``image`` into the created container, and let it run.

        Returns when the kernel's state is there; memory pages follow in the background.

        Raises:
            RuntimeFault: runsc refused. The container is of no more use: delete it.
        """
        await processes.run(
            self._argv(
                "restore",
                f"--image-path={image}",
                f"--bundle={bundle}",
                "--detach",
                "--background",
                container_id,
                upper_gb=upper_gb,
            )
        )

    async def checkpoint(self, container_id: str, image: Path, *, leave_running: bool = False) -> None:
        """Freeze the container's memory into the new folder ``image``."""
        flags = ["--leave-running"] if leave_running else []
        await processes.run(
            self._argv(
                "checkpoint",
                f"--image-path={image}",
                "--compression=none",
                "--exclude-committed-zero-pages",
                *flags,
                container_id,
            ),
            timeout_s=300,
        )

    async def pause(self, container_id: str) -> None:
        """Stop every program of the running container where it is; its memory stays."""
        await processes.run(self._argv("pause", container_id))

    async def resume(self, container_id: str) -> None:
        """Let the programs of a paused container go on."""
        await processes.run(self._argv("resume", container_id))

    async def tar_upper(self, container_id: str, destination: Path) -> None:
        """Write what the running container changed in its root as a tar in overlayfs form."""
        await processes.run(
            self._argv("tar", "rootfs-upper", f"--file={destination}", container_id), timeout_s=1800
        )

    async def delete(self, container_id: str) -> None:
        """Kill and remove the container, in whatever state it is. It is no error if there is none."""
        await processes.run(self._argv("delete", "--force", container_id), check=False, timeout_s=30)

    async def statuses(self) -> dict[str, str]:
        """All containers in our records: id -> status (creating, created, running, stopped …)."""
        finished = await processes.run(self._argv("list", "--format=json"))
        entries = json.loads(finished.stdout or b"null") or []
        return {entry["id"]: entry["status"] for entry in entries}

    async def _start(
        self,
        arguments: list[str],
        *,
        bundle: Path,
        container_id: str,
        stdin: int,
        cgroup_files: Sequence[Path],
        upper_gb: int,
    ) -> None:
        # Pipes would be inherited by the sandbox and never reach their end; a file in append mode is what both
        # runsc and the guest can write to.
        console = os.open(bundle / "console", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            status = await reaper.start_and_wait(
                ["/bin/sh", "-c", _JOIN_AND_EXEC, "sh", *self._argv(*arguments, upper_gb=upper_gb)],
                timeout=60,
                env={"PATH": _PATH, "THAWBOX_CGROUPS": " ".join(map(str, cgroup_files))},
                stdin=stdin,
                stdout=console,
                stderr=console,
            )
        except (TimeoutError, asyncio.CancelledError):
            await self.delete(container_id)
            raise
        finally:
            os.close(console)
        if status != 0:
            said = processes.tail((bundle / "console").read_bytes())
            await self.delete(container_id)
            raise processes.fault(f"runsc {arguments[0]} ended with status {status}: {said}")


def pid_of(bundle: Path) -> int | None:
    """The host's process id of the sandbox that was created from ``bundle``."""
    try:
        return int((bundle / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
