"""A build's log file: what the builder writes, what the API reads.

One line per entry: ``2026-01-01T00:00:03.123Z INFO  message``. What stands before the message (time, space,
level padded to 5, space) is 31 characters in every line; the message has no control characters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from thawbox.util.control_sequences import last_state, strip_controls
from thawbox.util.timestamps import rfc3339

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")
MAX_BYTES = 16 * 1024 * 1024
MAX_MESSAGE = 8 * 1024
"""Longest message in characters; a longer line of output is cut."""

_PREFIX = 31
_RESERVE = 256 * 1024
"""Bytes beyond the bound for warnings and errors, so that the reason of a failure is kept."""


class BuildLog:
    """Appends entries; each is in the file when ``write`` returns. Close it, or use it in a ``with``."""

    def __init__(self, descriptor: int, size: int, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._max = max_bytes
        self._full = size >= max_bytes

    @classmethod
    def open(cls, path: Path, *, max_bytes: int = MAX_BYTES) -> BuildLog:
        """Open for appending, make file and folder if missing, and drop a half-written last line.

        Raises:
            OSError: the file cannot be made.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            size = _whole_lines(descriptor)
            os.ftruncate(descriptor, size)
            os.lseek(descriptor, size, os.SEEK_SET)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, size, max_bytes)

    def write(self, level: str, message: str) -> None:
        """Add one entry per line of ``message``. ``level`` is one of ``LEVELS``.

        Colours, control characters and what a progress bar overwrote are dropped. Beyond the size bound only
        WARN and ERROR entries are kept, after a line that says so.
        """
        stamp = f"{rfc3339(time.time())} {level:<5} "
        lines = [clean(line) for line in message.rstrip("\r\n").split("\n")]
        self._append("".join(f"{stamp}{line}\n" for line in lines), level)

    def close(self) -> None:
        """Close the file; again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, text: str, level: str) -> None:
        data = text.encode("utf-8", "replace")
        if self._size + len(data) > self._max:
            if not self._full:
                self._full = True
                notice = f"the log is longer than {self._max} bytes: from here on only warnings and errors"
                self._put(f"{rfc3339(time.time())} WARN  {notice}\n".encode())
            if level not in ("WARN", "ERROR") or self._size + len(data) > self._max + _RESERVE:
                return
        self._put(data)

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._size += len(data)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of a log."""

    timestamp: str
    level: str
    message: str


def read_text(path: Path, offset: int) -> tuple[str, int]:
    """Messages from character ``offset`` on, each ending in a newline, and the offset behind them.

    Offsets count characters of this text. One beyond the end gives nothing and comes back as it was. A
    missing file is an empty log; a last line that is still being written is left out. Reads the whole file:
    call it in a thread.
    """
    offset = max(offset, 0)
    end = 0
    parts: list[str] = []
    for line in _lines(path):
        start, end = end, end + len(line) - _PREFIX
        if end > offset:
            parts.append(line[_PREFIX + max(0, offset - start) :])
    return "".join(parts), max(end, offset)


def read_entries(path: Path, position: int) -> tuple[list[LogEntry], int]:
    """Entries from byte ``position`` on (0, or what the call before gave), and the position behind them."""
    entries = []
    for line in _lines(path, position):
        position += len(line.encode())
        entries.append(LogEntry(timestamp=line[:24], level=line[25:30].rstrip(), message=line[_PREFIX:-1]))
    return entries, position


def _lines(path: Path, position: int = 0) -> Iterator[str]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(position)
        for line in file:
            if line.endswith(b"\n"):
                yield line.decode()


def clean(line: str) -> str:
    """A line of a program's output without colours and control characters, at most ``MAX_MESSAGE`` characters."""
    line = last_state(strip_controls(line, keep="\t\r")).replace("\t", "    ")
    return line if len(line) <= MAX_MESSAGE else line[:MAX_MESSAGE] + " …"


def _whole_lines(descriptor: int) -> int:
    """The size of the file up to its last newline."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - 65536)
        block = os.pread(descriptor, end - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
