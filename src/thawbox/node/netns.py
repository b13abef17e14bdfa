"""Named network namespaces, made and entered by short-lived threads.

pyroute2's helpers for this fork: the child shares the event loop's signal pipe, so a SIGTERM to the child would reach
the server. A thread that has entered a namespace ends in it, so no other code runs in the wrong namespace.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute

FOLDER = Path("/var/run/netns")
"""Where ``ip netns`` keeps names."""
_CLONE_NEWNET = 0x40000000
_MS_BIND = 4096
_MS_REC = 16384
_MS_SHARED = 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def create(path: Path) -> None:
    """Make a new namespace and name it ``path``.

    Raises:
        OSError: the kernel does not allow it, or ``path`` exists; no new name is left.
    """
    _prepare_folder()
    path.touch(mode=0o600, exist_ok=False)

    def make() -> None:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        _check(_libc.mount(b"/proc/thread-self/ns/net", bytes(path), None, _MS_BIND, None), "mount")

    try:
        _in_thread(make)
    except BaseException:
        remove(path)
        raise


def _prepare_folder() -> None:
    """Make the folder a shared mount point, as ``ip netns add`` does if it is not one.

    It must happen before the first namespace is mounted in the folder. Later it would hide those mounts below copies,
    and their names could not be removed any more (EBUSY).
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # ip takes the same lock
        folder = bytes(FOLDER)
        while _libc.mount(b"", folder, b"none", _MS_SHARED | _MS_REC, None) != 0:
            if ctypes.get_errno() != errno.EINVAL:
                _check(-1, "mount")
            _check(_libc.mount(folder, folder, b"none", _MS_BIND | _MS_REC, None), "mount")
    finally:
        os.close(descriptor)


def inside(path: Path, do: Callable[[IPRoute], None]) -> None:
    """Call ``do`` with a netlink socket of the namespace ``path``.

    Raises:
        OSError: there is no such namespace. What ``do`` raises is raised as well.
    """

    def enter() -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(descriptor, _CLONE_NEWNET), "setns")
        finally:
            os.close(descriptor)
        with IPRoute() as netlink:
            do(netlink)

    _in_thread(enter)


def remove(path: Path) -> None:
    """Remove the name, if it exists; the namespace ends with the last process in it."""
    _libc.umount2(bytes(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


def names() -> list[str]:
    """Names of all named namespaces of this machine."""
    return [entry.name for entry in FOLDER.iterdir()] if FOLDER.is_dir() else []


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _in_thread(do: Callable[[], None]) -> None:
    failure: list[BaseException] = []

    def guarded() -> None:
        try:
            do()
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=guarded, name="netns")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
