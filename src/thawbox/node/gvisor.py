"""Calls of runsc, by its command line: the interface that gVisor keeps stable.

The top-level flags of ``create`` must be given again at ``restore``, so all commands get the same ones.
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
"""The only variable of a sandbox's host processes: the server's environment may hold secrets."""
_CREATE_TIMEOUT_S = 60

_JOIN_AND_EXEC = """
for file in $THAWBOX_CGROUPS; do echo $$ > "$file" || exit 1; done
unset THAWBOX_CGROUPS
exec setpriv --pdeathsig=KILL "$@"
"""
"""Enters the prepared cgroups, then becomes runsc: sandbox and gofer inherit them. This takes 60 to 85 ms less than a
cgroup that runsc makes. runsc dies with the server, so that it creates no container that no server knows of."""


@dataclass(frozen=True, slots=True)
class Runsc:
    """The gVisor runtime of one state folder."""

    binary: Path
    root: Path
    """folder of its records"""
    upper: Path
    """folder of the containers' writable layers"""
    digest: str
    """SHA-256 of the binary in hexadecimal. Only the build that made a snapshot can restore it."""

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
        """Create the container from ``bundle``: sandbox process, gofer and network are ready, no program runs yet.

        The first process will find ``secret`` and a newline on its standard input. What it prints is appended to the
        file ``console`` in the bundle. ``upper_gb`` limits the writable layer, in GiB.

        Raises:
            RuntimeFault: runsc failed or took longer than 60 s; nothing of the container is left.
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
        """Start the first process of the created container.

        Raises:
            RuntimeFault: runsc failed.
        """
        await processes.run(self._argv("start", container_id))

    async def restore(self, container_id: str, bundle: Path, image: Path, *, upper_gb: int) -> None:
        """Load the snapshot in the folder ``image`` into the created container, and let it run.

        Returns when the kernel's state is loaded; memory pages are loaded in the background.

        Raises:
            RuntimeFault: runsc failed. The container cannot be used any more: delete it.
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
        """Write the container's memory and changed files into the new folder ``image``.

        The container ends, unless ``leave_running``.

        Raises:
            RuntimeFault: runsc failed, or took longer than 5 minutes.
        """
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
        """Stop all programs of the running container; its memory stays.

        Raises:
            RuntimeFault: runsc failed.
        """
        await processes.run(self._argv("pause", container_id))

    async def resume(self, container_id: str) -> None:
        """Let the programs of a paused container continue.

        Raises:
            RuntimeFault: runsc failed.
        """
        await processes.run(self._argv("resume", container_id))

    async def tar_upper(self, container_id: str, destination: Path) -> None:
        """Write the files that the running container has changed as a tar file in overlayfs form.

        Raises:
            RuntimeFault: runsc failed, or took longer than 30 minutes.
        """
        await processes.run(
            self._argv("tar", "rootfs-upper", f"--file={destination}", container_id), timeout_s=1800
        )

    async def delete(self, container_id: str) -> None:
        """Kill and remove the container, whatever state it is in. If there is no such container, do nothing."""
        await processes.run(self._argv("delete", "--force", container_id), check=False, timeout_s=30)

    async def statuses(self) -> dict[str, str]:
        """The containers in this state folder's records: id -> status (creating, created, running, stopped …).

        Raises:
            RuntimeFault: runsc failed.
        """
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
        # A file and no pipe: the sandbox would inherit the pipe, which then stays open. In append mode, because both
        # runsc and the guest write to it.
        console = os.open(bundle / "console", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            status = await reaper.start_and_wait(
                ["/bin/sh", "-c", _JOIN_AND_EXEC, "sh", *self._argv(*arguments, upper_gb=upper_gb)],
                timeout_s=_CREATE_TIMEOUT_S,
                env={"PATH": _PATH, "THAWBOX_CGROUPS": " ".join(map(str, cgroup_files))},
                stdin=stdin,
                stdout=console,
                stderr=console,
            )
        except TimeoutError as error:
            await self.delete(container_id)
            raise processes.TimedOut(f"runsc {arguments[0]}", _CREATE_TIMEOUT_S) from error
        except asyncio.CancelledError:
            await self.delete(container_id)
            raise
        finally:
            os.close(console)
        if status != 0:
            printed = (bundle / "console").read_bytes()
            await self.delete(container_id)
            sentence = f"runsc {arguments[0]} ended with status {status}: {processes.tail(printed)}"
            raise processes.fault(sentence, printed.decode("utf-8", "replace"))


def pid_of(bundle: Path) -> int | None:
    """The host's process id of the sandbox that was created from ``bundle``; None if none was."""
    try:
        return int((bundle / "pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
