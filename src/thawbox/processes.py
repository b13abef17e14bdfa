"""Start programs of the host from the event loop, read what they print, and end them on every path.

One program has a runner of its own: ``node.reaper.start_and_wait`` starts the runsc that creates a container.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import MachineDiskFull, RuntimeFault
from .util import full_disk

_TAIL_LINES = 40
_LINE_BYTES = 4096
_STDOUT_BYTES = 16 * 1024 * 1024

_KEPT_ENVIRONMENT = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "ftp_proxy",
    "all_proxy",
    "ssl_cert_file",
    "ssl_cert_dir",
    "tmpdir",
)


def watch_by_pidfd() -> None:
    """Have the running event loop notice the end of programs by file descriptors, where the kernel has them.

    Python before 3.12 starts a thread for each program otherwise, and the loop stands still until that runs: 20 ms
    on a busy machine.
    """
    if sys.version_info < (3, 12):
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError:
            return
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended, and what it printed."""

    status: int
    """exit status; the negative number of the signal if one ended it"""
    stdout: bytes
    """the first 16 MiB of its standard output"""
    tail: tuple[str, ...]
    """the last 40 lines of its standard error without empty ones, of each the first 4 KiB; before them, if it was
    earlier, the first line that says that the disk is full"""


class ProgramMissing(RuntimeFault):
    """The program is not installed."""

    def __init__(self, program: str) -> None:
        super().__init__(f"the program {program} is not installed: run sudo thaw setup --install-packages")


class TimedOut(RuntimeFault):
    """The program was still running when its time was over. It has been killed."""

    def __init__(self, program: str, timeout_s: float) -> None:
        super().__init__(f"{program} took longer than {timeout_s:g} s")


def plain_environment(**extra: str) -> dict[str, str]:
    """An environment with nothing of the server's but its proxies, CAs and temporary folder, and ``extra``.

    Package tools read dozens of variables, and the server's may hold secrets. The locale is C.UTF-8, so that error
    messages are in the words that we look for.
    """
    kept = {name: value for name, value in os.environ.items() if name.lower() in _KEPT_ENVIRONMENT}
    path = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {**kept, "PATH": path, "LC_ALL": "C.UTF-8", **extra}


async def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout_s: float = 60,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    line: Callable[[str], None] | None = None,
    die_with_parent: bool = False,
) -> ProgramResult:
    """Run ``argv`` to its end and return what it printed.

    The program runs in a session of its own, so a Ctrl-C meant for the server does not reach it. It is killed, with
    all that it started in its session, when ``timeout_s`` is over, when the caller is cancelled, and when ``line``
    raises.

    Args:
        env: the whole environment of the program; ``plain_environment()`` by default.
        stdin: bytes for its standard input, which is empty by default.
        line: called with each line of its standard error as it comes.
        die_with_parent: kill the program also when this process dies, for programs that run long. Its children are
            not killed. It takes one more exec (about 1 ms), which the short programs that start a sandbox are spared.

    Raises:
        ProgramMissing: the program is not installed.
        TimedOut: it took too long.
        MachineDiskFull: with ``check``: it ended with another status than 0, and says that the disk is full.
        RuntimeFault: it could not be started, or, with ``check``, ended with another status than 0.
    """
    words = [os.fspath(word) for word in argv]
    name = os.path.basename(words[0])
    environment = plain_environment() if env is None else env
    # Looked for here, because setpriv would report a missing program only by an exit status.
    if shutil.which(words[0], path=environment.get("PATH", os.defpath)) is None:
        raise ProgramMissing(words[0])
    if die_with_parent:
        words = ["setpriv", "--pdeathsig=KILL", "--", *words]
    async with _started(words, name, environment, cwd, has_input=stdin is not None) as process:
        try:
            async with asyncio.timeout(timeout_s):
                stdout, errors, status, _ = await asyncio.gather(
                    _read_all(process.stdout),
                    _read_lines(process.stderr, line),
                    process.wait(),
                    _write(process.stdin, stdin),
                )
        except TimeoutError as error:
            raise TimedOut(name, timeout_s) from error
    if check and status != 0:
        printed = "\n".join(errors).encode() or stdout
        raise fault(f"{name} ended with status {status}: {tail(printed)}", "\n".join(errors))
    return ProgramResult(status, stdout, errors)


@contextlib.asynccontextmanager
async def _started(
    argv: Sequence[str], name: str, env: Mapping[str, str], cwd: Path | None, *, has_input: bool
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, which is gone after the block: the block waits for it, or raises."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.PIPE if has_input else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            start_new_session=True,
        )
    except OSError as error:
        raise RuntimeFault(f"{name} cannot be started: {error}") from error
    try:
        yield process
    except BaseException:
        # The whole session: helpers of the program may outlive it and hold its pipes. Not after an orderly end,
        # when the number may belong to another process already.
        kill_group(process.pid)
        await asyncio.shield(process.wait())
        raise


async def _write(stream: asyncio.StreamWriter | None, content: bytes | None) -> None:
    if stream is None or content is None:
        return
    stream.write(content)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ends without reading all
        await stream.drain()
    stream.close()


async def _read_all(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = bytearray()
    while chunk := await stream.read(65536):
        kept += chunk[: _STDOUT_BYTES - len(kept)]
    return bytes(kept)


async def _read_lines(
    stream: asyncio.StreamReader | None, line: Callable[[str], None] | None
) -> tuple[str, ...]:
    assert stream is not None
    kept: deque[str] = deque(maxlen=_TAIL_LINES)
    reason: list[str] = []

    def keep(raw: bytes) -> None:
        text = raw[:_LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            if len(kept) == _TAIL_LINES and not reason and full_disk.is_full_disk(kept[0]):
                reason.append(kept[0])  # runsc prints the reason first, and then a long trace
            kept.append(text)
            if line:
                line(text)

    rest = b""
    while chunk := await stream.read(65536):
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[-_LINE_BYTES:]
        for raw in whole:
            keep(raw)
    keep(rest)
    return (*reason, *kept)


def fault(sentence: str, output: str = "") -> RuntimeFault:
    """The error for a program of the host that failed as ``sentence`` says; ``MachineDiskFull`` if that was why.

    ``output``: what it printed, where the sentence has only the end of that.
    """
    if not full_disk.is_full_disk(sentence) and not full_disk.is_full_disk(output):
        return RuntimeFault(sentence)
    full = MachineDiskFull()
    full.__cause__ = RuntimeFault(sentence)
    return full


def kill_group(pid: int) -> None:
    """Kill the process group that ``pid`` leads, if it is still there."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def tail(output: bytes, limit: int = 2000) -> str:
    """The last ``limit`` bytes of some program's output as text."""
    return output[-limit:].decode("utf-8", "replace").strip()
