"""``watch``: runs ``watch_program`` and passes on what it prints. Runs inside, standard library only.

The agent loads this with the first watch.
"""

import os

from . import children, commands, copy, protocol
from .wire import Connection, text


def serve(connection: Connection, request: dict[str, object]) -> None:
    """Say as STDOUT what changes below ``path``, as lines of ``watch_program``, until the client goes.

    Raises:
        Refused: of the path, or an errno (NOT_FOUND).
    """
    path = os.path.realpath(text(request, "path"), strict=True)
    argv = [*copy.program("watch_program"), path]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    try:
        child, watched = children.spawn(
            [os.fsencode(word) for word in argv],
            {b"PATH": b"/", b"LANG": b"C.UTF-8"},
            "/",
            None,
            (null, theirs, 2),
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
        os.close(null)
    run = commands.Run(child, watched, None)
    run.streams = [commands.Stream(ours, protocol.STDOUT, None)]
    commands.attend(connection, run)
