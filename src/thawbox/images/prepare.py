"""Prepares a root tree for sandboxes: mount points, a few plain files. ``python -m thawbox.images.prepare ROOT``.

The tree may be hostile, for example with symlinks that point out of it; ``confined`` keeps the work inside.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

from thawbox.errors import BuildError

from . import confined

_FOLDERS = (
    ("/proc", 0o555),
    ("/sys", 0o555),
    ("/dev", 0o755),
    ("/tmp", 0o1777),
    ("/run", 0o755),
    ("/run/thawbox", 0o755),
    ("/etc", 0o755),
    ("/opt", 0o755),
    ("/opt/thawbox", 0o755),
    ("/workspace", 0o755),
)
_EMPTIED = ("/proc", "/sys", "/dev")
"""The runtime mounts over these. What an image has in them, such as device nodes, is removed."""
_LINKS_KEPT = ("/opt", "/workspace", "/etc")
"""These may be symlinks to a folder of the image. The others are mount points and must be real folders."""
_FILES = (
    ("/etc/resolv.conf", ""),
    ("/etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    ("/etc/hostname", "sandbox\n"),
    # The runtime mounts a tmpfs over an empty /tmp: files of a build step would be lost.
    ("/tmp/.keep", ""),
)
_ACCOUNTS = (("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"), ("/etc/group", "root:x:0:\n"))
_SECONDS = 300


async def prepare_root(root: Path) -> None:
    """Give a root tree what sandboxes need. Safe on a hostile tree; it may be called again.

    Afterwards /proc, /sys, /dev (all three empty), /tmp (1777, not empty), /run and /run/thawbox are real folders;
    /opt/thawbox and /workspace exist; /etc/resolv.conf, /etc/hosts and /etc/hostname are plain files with neutral
    content, owned by root, in place of the image's; /etc/passwd and /etc/group exist, with root if the
    image had none.

    Raises:
        BuildError: it did not work, for example because no space is left.
    """
    # Imported here, because the confined child does not need it.
    from thawbox import processes

    command = confined.command(__name__, str(root))
    try:
        ended = await processes.run(command, timeout_s=_SECONDS, check=False, die_with_parent=True)
    except processes.TimedOut:
        raise BuildError(f"the base image's root was not prepared within {_SECONDS} s") from None
    if ended.status:
        raise BuildError(f"the base image's root could not be prepared: {' '.join(ended.tail)}")


def _prepare() -> None:
    """Do the work, with the tree as ``/``."""
    confined.require()
    os.chmod("/", 0o755)  # noqa: S103  every user of the image must enter it
    for path, mode in _FOLDERS:
        _folder(path, mode)
    for path in _EMPTIED:
        with os.scandir(path) as children:
            for child in list(children):
                _remove(child.path)
    for path, content in _FILES:
        _remove(path)
        _write(path, content)
    for path, content in _ACCOUNTS:
        if not os.path.isfile(path):
            _remove(path)
            _write(path, content)


def _folder(path: str, mode: int) -> None:
    if os.path.isdir(path) and (path in _LINKS_KEPT or not os.path.islink(path)):
        if path in ("/proc", "/sys", "/dev", "/tmp"):
            os.chmod(path, mode)
        return
    _remove(path)
    os.mkdir(path)
    os.chmod(path, mode)


def _write(path: str, content: str) -> None:
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(target, "w") as file:
        file.write(content)


def _remove(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def main() -> int:
    confined.enter(sys.argv[1])
    try:
        _prepare()
    except OSError as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
