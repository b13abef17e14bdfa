"""What a fork server of warm interpreters imports, and which programs its children may run. Part of process 1."""

import os

from . import spawn
from .program import Program
from .users import User

_EARLY = (
    *("PYTHON", "LD_", "LC_", "MALLOC_", "GLIBC_", "OMP_", "OPENBLAS_", "MKL_", "NUMEXPR_", "GOTO_", "BLIS_"),
    *("MPL", "MATPLOTLIB", "TZ", "LANGUAGE", "VIRTUAL_ENV", "CUDA_", "XDG_"),
)
"""Beginnings of variables that a program or a usual module reads when it starts, so they cannot be set later."""


class ForkServerSpec:
    """What is needed to start the fork server, as often as that happens."""

    def __init__(
        self, program: Program, interpreter: bytes, modules: list[str], count: int, memory: int | None
    ) -> None:
        self.program = program
        self.interpreter = interpreter
        """Path of the program's file."""
        self.runner = os.path.join(os.path.dirname(program.argv[-1]), b"run.py")
        self.modules = modules
        self.top_level = frozenset(name.partition(".")[0] for name in modules)
        self.count = count
        """Children that wait."""
        self.memory = memory
        """Bytes that the sandbox may use; None: unknown."""

    def can_run(
        self, argv: list[bytes], env: dict[bytes, bytes], cwd: str, user: User | None, keep: tuple[int, ...]
    ) -> bool:
        """Whether ``argv`` has the same effect in a child of the fork server as in a new process."""
        if argv[1:] != [self.runner] or len(keep) > 1 or not _same_user(self.program.user, user):
            return False
        if any(env.get(name) != value for name, value in self.program.env.items()):
            return False
        added = [os.fsdecode(name) for name in env if name not in self.program.env]
        if any(name.startswith(_EARLY) for name in added):
            return False
        return spawn.find(argv[0], env.get(b"PATH", b""), cwd) == self.interpreter


def _same_user(one: User | None, other: User | None) -> bool:
    def identity(user: User | None) -> object:
        return (0,) if user is None or user.is_root else (user.uid, user.gid, sorted(user.groups))

    return identity(one) == identity(other)
