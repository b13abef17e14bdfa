"""Python programs that work inside a hostile root tree, confined to it.

An image may hold symlinks that point anywhere. A process whose root *is* the tree cannot follow them out, whatever
they say; so unpacking and preparing run as short child processes that enter the tree first. From then on nothing
may be loaded from disk: the image's own files lie where Python looks for its modules.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys

_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid,+sys_chroot"
_MEMORY = 1024**3


def command(module: str, *args: str) -> list[str]:
    """The command line that runs ``module`` with few capabilities and bounded memory."""
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
    """Called by code that works on ``/`` and would destroy a machine if that were the machine's own.

    Raises:
        RuntimeError: this process has not entered a tree.
    """
    if not _entered:
        raise RuntimeError("this works on / and is only for a process that has entered an image's tree")


def enter(root: str) -> None:
    """Make ``root`` this process's root, and switch off imports from disk. There is no way back."""
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
