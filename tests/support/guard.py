"""Keep a unit test from starting a program, forking, or opening a connection or a port.

Python's audit events tell of all of them, whichever library asks, and an exception raised by a hook stops the call.
(Source: the "audit events table" of Python's documentation. ``socket.socketpair``, which every event loop needs, has
no such event.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

FORBIDDEN = frozenset(
    {
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "subprocess.Popen",
    }
)


class NotAUnitTest(AssertionError):
    """A unit test did what only an integration test may do."""


_violations: list[str] | None = None
"""Events so far; None while no unit test runs."""


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _violations is not None and event in FORBIDDEN:
        _violations.append(f"{event}{arguments[:2]!r}")
        raise NotAUnitTest(_sentence(_violations))


def _sentence(violations: list[str]) -> str:
    return (
        f"A unit test must not do this: {', '.join(violations)}. "
        "Move the test to tests/integration, or let it use a fake."
    )


sys.addaudithook(_hook)  # stays for good; it does nothing outside of ``enforced``


@contextmanager
def enforced() -> Iterator[list[str]]:
    """Refuse the forbidden events during the block.

    Yields the list of refused events. At the end, raises ``NotAUnitTest`` if it is not empty, because the code under
    test may have caught the exception.
    """
    global _violations
    before, _violations = _violations, []
    try:
        yield _violations
        if _violations:
            raise NotAUnitTest(_sentence(_violations))
    finally:
        _violations = before
