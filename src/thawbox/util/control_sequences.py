"""Removes control sequences from the output of programs, so that it cannot control a terminal.

The step output of builds, the build log and the command line use the same filter, so none lets through what another one
must remove.
"""

from __future__ import annotations

import functools
import re

_ESCAPE_SEQUENCES = re.compile(
    "\x1b(?:"
    r"\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movements
    "|\\][^\x07\x1b\r\n]*(?:\x07|\x1b\\\\)?"  # OSC: window titles, links; to its end, or to that of the line
    "|[@-_])"  # two characters
)
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
"""Control characters (C0, DEL, C1), and the two other characters that end a line."""


def strip_controls(text: str, *, keep: str = "") -> str:
    """``text`` without escape sequences and control characters, line breaks among them.

    The control characters in ``keep`` stay; ESC never does.
    """
    return _ESCAPE_SEQUENCES.sub("", text).translate(_removal(keep))


@functools.cache
def _removal(keep: str) -> dict[int, None]:
    return {code: None for code in _CONTROLS if code == 0x1B or chr(code) not in keep}


def last_state(line: str) -> str:
    r"""The part of a line that stays visible. Programs with progress bars draw a line anew after each ``\r``."""
    return line.rstrip("\r").rpartition("\r")[2]
