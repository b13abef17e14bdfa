"""Runs Python programs that work inside a hostile root tree, confined to it.

An image may hold symlinks that point anywhere. A process whose root *is* the tree cannot follow them out. So unpacking
and preparing run as short child processes that enter the tree first (chroot). After that no module may be loaded from
disk, because the image's files are where Python looks for modules.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys

_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid,+sys_chroot"
_MEMORY = 1024**3
"""limit of the address space in bytes"""


def command(module: str, *args: str) -> list[str]:
    """The command line that runs ``module`` with few capabilities and at most 1 GiB of memory."""
    return [
        "prlimit",
        f"--as={_MEMORY}",
        "setpriv",
        f"--bounding-set={_CAPABILITIES}",
        "--no-new-privs",
        "--pdeathsig=KILL",
        "--",
        sys.executable,
        "-I",
        "-X",
        "utf8",
        "-m",
        module,
        *args,
    ]


_entered = False


def require() -> None:
    """Make sure that this process has entered a tree. For code that would otherwise destroy the machine's files.

    Raises:
        RuntimeError: it has not.
    """
    if not _entered:
        raise RuntimeError("this changes / and must only run after entering an image's tree")


def enter(root: str) -> None:
    """Make ``root`` this process's root, and switch off imports from disk. It cannot be undone.

    Raises:
        RuntimeError: ``root`` is the machine's own root.
        OSError: the kernel does not allow it.
    """
    os.umask(0o022)
    global _entered
    inside = os.stat(root)
    if os.path.samestat(os.stat("/"), inside):
        raise RuntimeError(f"{root} is this machine's own root")
    os.chroot(root)
    os.chdir("/")
    _entered = os.path.samestat(os.stat("/"), inside)
    harmless = (importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter)
    sys.meta_path[:] = [finder for finder in sys.meta_path if finder in harmless]
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
