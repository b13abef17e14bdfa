"""A command in a plain chroot on a base image's own tree: what a build costs without a sandbox.

The tree is the lower folder of an overlay; all mounts are made in a mount namespace that ends with the command, so
nothing stays mounted. Of the host the command sees its network, its name servers, and the CA file and environment
that a build step has too.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from thawbox.builder.host_environment import CA_INSIDE
from thawbox.settings import Settings

TIMEOUT_S = 1800
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT = r"""
set -eu
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
cd "$WORK/root"
for path in proc dev run run/thawbox etc etc/resolv.conf; do
  if [ -L "$path" ] || [ ! -e "$path" ]; then echo "$path is not what a prepared base has" >&2; exit 1; fi
done
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount --bind /etc/resolv.conf etc/resolv.conf
if [ -n "$CA" ]; then
  mount -t tmpfs -o mode=755 tmpfs run/thawbox
  cp "$CA" "run/thawbox/$(basename "$CA_INSIDE")"
fi
command=$COMMAND
unset LOWER WORK CA CA_INSIDE COMMAND
exec chroot . /bin/sh -c "$command"
"""
_ISOLATED = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL")


class CommandFailed(Exception):
    """The command ended with another status than 0; with its last lines."""


def run(tree: Path, command: str, *, env: Mapping[str, str], settings: Settings) -> float:
    """Run the shell line ``command`` in a throw-away copy of ``tree``; returns the seconds, mounting included.

    Raises:
        CommandFailed: it failed, or took longer than half an hour.
    """
    work = Path(tempfile.mkdtemp(prefix="chroot-", dir=settings.state / "tmp"))
    ca = settings.guest_ca_file if settings.guest_ca_file and settings.guest_ca_file.exists() else None
    inside = {"PATH": _PATH, "HOME": "/root", **env}
    mounting = {
        "LOWER": str(tree),
        "WORK": str(work),
        "COMMAND": command,
        "CA": str(ca or ""),
        "CA_INSIDE": CA_INSIDE,
    }
    try:
        for name in ("upper", "work", "root"):
            (work / name).mkdir()
        began = time.perf_counter()
        try:
            done = subprocess.run(
                [*_ISOLATED, "/bin/sh", "-c", _SCRIPT],
                env={**inside, **mounting},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"no end after {TIMEOUT_S} s") from error
        seconds = time.perf_counter() - began
        if done.returncode != 0:
            raise CommandFailed(f"status {done.returncode}: {done.stdout[-500:].decode(errors='replace')}")
        return seconds
    finally:
        _remove(work)


def _remove(work: Path) -> None:
    """Remove what the command wrote. The overlay was in a namespace that is gone, and is never entered."""
    if os.path.ismount(work / "root"):
        raise RuntimeError(f"{work / 'root'} is still mounted; not removing anything")
    subprocess.run(["rm", "-rf", "--one-file-system", work], check=True)
