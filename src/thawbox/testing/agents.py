"""A test double of the agents inside a ``FakeRuntime``'s containers: it answers instead of ``thawbox.guest``."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thawbox import guest
from thawbox.guest import Completed, Endpoint, Event, Exit, Stdout

from .runtime import FakeContainer, FakeRuntime

PID = 42
"""Of the start command."""


@dataclass
class FakeAgents:
    """All agents of a runtime. What they did is in ``calls``; what runs inside leaves its traces in ``content``."""

    runtime: FakeRuntime
    calls: list[str] = field(default_factory=list)
    """operations, with the command or path if there is one: ``init``, ``spawn make``"""
    outcomes: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """command -> exit status and output; others end with 0 and no output"""
    endless: set[str] = field(default_factory=set)
    """commands that do not end"""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    """set when a command runs that does not end"""
    refusals: dict[str, Exception] = field(default_factory=dict)
    """operation -> error"""
    passes: bool = True
    """whether ready checks pass"""
    start_status: int | None = None
    """exit status of the start command; None while it runs"""
    start_output: bytes = b""
    environments: list[Mapping[str, str] | None] = field(default_factory=list)
    """the template's variables of each ``init``"""

    def install(self, replace: Callable[[object, str, object], None]) -> None:
        """Have ``thawbox.guest`` call this double; ``replace`` is a monkeypatch's ``setattr``."""
        for name in (
            "init",
            "mkdir",
            "start",
            "command_status",
            "probe",
            "run",
            "spawn",
            "place",
            "quiesce",
            "renew",
            "start_warm",
            "stat",
            "read_file",
        ):
            replace(guest, name, getattr(self, name))

    async def init(
        self, endpoint: Endpoint, *, template_env: Mapping[str, str] | None = None, **_: object
    ) -> None:
        """Note the variables."""
        self._called(endpoint, "init")
        self.environments.append(template_env)

    async def mkdir(self, endpoint: Endpoint, path: str, **_: object) -> None:
        """Note the path."""
        self._called(endpoint, "mkdir", path)

    async def start(self, endpoint: Endpoint, *, shell: str, **_: object) -> int:
        """One program more."""
        self._called(endpoint, "start", shell).programs += 1
        return PID

    async def command_status(self, endpoint: Endpoint, pid: int, **_: object) -> int | None:
        """As ``start_status`` says."""
        self._called(endpoint, "command_status")
        return self.start_status

    async def probe(self, endpoint: Endpoint, kind: str, target: int | str, **_: object) -> bool:
        """As ``passes`` says."""
        self._called(endpoint, "probe", f"{kind} {target}")
        return self.passes

    async def run(
        self, endpoint: Endpoint, *, argv: Sequence[str] = (), shell: str | None = None, **_: object
    ) -> Completed:
        """The outcome of the command line, or of the program's last argument."""
        command = shell if shell is not None else argv[-1]
        self._called(endpoint, "run", command)
        code, output = await self._outcome(command)
        return Completed(
            exit_code=code,
            signal=None,
            stdout=b"",
            stderr=output,
            timed_out=False,
            truncated=False,
            seconds=0.0,
            pid=PID,
        )

    @contextlib.asynccontextmanager
    async def spawn(
        self, endpoint: Endpoint, *, shell: str, **_: object
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Output and end of the command, which is in ``content`` from now on."""
        self._called(endpoint, "spawn", shell).content += f"{shell};"

        async def events() -> AsyncIterator[Event]:
            code, output = await self._outcome(shell)
            yield Stdout(output)
            yield Exit(code=code, signal=None, timed_out=False, truncated=False, seconds=0.0)

        yield events()

    async def place(
        self, endpoint: Endpoint, chunks: AsyncIterator[bytes], *, dest: str, **_: object
    ) -> tuple[int, int]:
        """The bytes are in ``content`` from now on."""
        data = b"".join([chunk async for chunk in chunks])
        self._called(endpoint, "place", dest).content += f"{data.decode()}>{dest};"
        return 1, len(data)

    async def quiesce(self, endpoint: Endpoint, **_: object) -> None:
        """Nothing to do."""
        self._called(endpoint, "quiesce")

    async def renew(self, endpoint: Endpoint, **_: object) -> None:
        """Nothing to forget."""
        self._called(endpoint, "renew")

    async def start_warm(self, endpoint: Endpoint, modules: Sequence[str], **_: object) -> None:
        """One program more."""
        self._called(endpoint, "start_warm", " ".join(modules)).programs += 1

    async def stat(self, endpoint: Endpoint, path: str, **_: object) -> guest.FileInfo:
        """The start command's log."""
        return self._log_info()

    @contextlib.asynccontextmanager
    async def read_file(
        self, endpoint: Endpoint, path: str, *, offset: int = 0, **_: object
    ) -> AsyncIterator[tuple[guest.FileInfo, AsyncIterator[bytes]]]:
        """The start command's log."""

        async def chunks() -> AsyncIterator[bytes]:
            yield self.start_output[offset:]

        yield self._log_info(), chunks()

    def _log_info(self) -> guest.FileInfo:
        return guest.FileInfo(type="file", size=len(self.start_output), mode=0o644, uid=0, gid=0, mtime=0.0)

    def _called(self, endpoint: Endpoint, operation: str, about: str = "") -> FakeContainer:
        """Note the call; gives the container, which has to run."""
        self.calls.append(f"{operation} {about}".strip())
        if operation in self.refusals:
            raise self.refusals[operation]
        (entry,) = (
            entry for entry in self.runtime.table.values() if entry.container.secret == endpoint.secret
        )
        assert entry.status == "running", (operation, entry)
        return entry

    async def _outcome(self, command: str) -> tuple[int, bytes]:
        if command in self.endless:
            self.reached.set()
            await asyncio.Event().wait()
        return self.outcomes.get(command, (0, b""))
