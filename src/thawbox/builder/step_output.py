"""A command's output as lines of the build log."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable

from thawbox.util.control_sequences import last_state, strip_controls

_LONGEST_LINE = 4096
LAST_LINES = 20


class LineWriter:
    """Turns pieces of output into lines and passes each to ``emit``, at most ``max_bytes`` in all.

    Escape sequences and control characters are removed. Of a line that was drawn anew (progress bars), the last state
    counts. The last lines are kept for error messages, also those beyond the bound.
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
        """End of the output: emit a last line that has no newline."""
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
