"""A command's output as lines of the build log."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable

from thawbox.util.control_sequences import last_state, strip_controls

_LONGEST_LINE = 4096
LAST_LINES = 20


class LineWriter:
    """Takes bytes as they come, gives lines as they end; bounded, and the last lines kept.

    A carriage return ends a line too (progress bars), of which the last state counts. Escape sequences and control
    characters go.
    """

    def __init__(self, emit: Callable[[str], None], max_bytes: int) -> None:
        self._emit = emit
        self._left = max_bytes
        self._max = max_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""
        self._last: deque[str] = deque(maxlen=LAST_LINES)

    def write(self, data: bytes) -> None:
        """Take the next piece of output."""
        self._open += self._decoder.decode(data)
        *lines, self._open = self._open.split("\n")
        for line in lines:
            self._line(line)
        if len(self._open) > _LONGEST_LINE:
            self._line(self._open)
            self._open = ""

    def close(self) -> None:
        """The output has ended."""
        self._open += self._decoder.decode(b"", final=True)
        if self._open:
            self._line(self._open)
            self._open = ""

    def last_lines(self) -> str:
        """The last lines for an error message, with a newline in front; empty if there was no output."""
        return "\n" + "\n".join(self._last) if self._last else ""

    def _line(self, line: str) -> None:
        line = strip_controls(last_state(line), keep="\t")[:_LONGEST_LINE]
        self._last.append(line[:500])
        if self._left <= 0:
            return
        self._left -= len(line.encode()) + 1
        if self._left <= 0:
            self._emit(f"… output beyond {self._max} bytes is left out")
        else:
            self._emit(line)
