"""``watch``: runs ``watch_program`` and sends what it prints. Part of process 1; standard library only.

The agent imports this with the first watch.
"""

import os

from . import copy, protocol, relay, spawn
from .wire import ClientConnection, text


def serve(connection: ClientConnection, request: dict[str, object]) -> None:
    """Send changes below ``path`` as STDOUT, in lines of ``watch_program``, until the client closes the connection.

    Raises:
        OperationError: of the path, or an errno (NOT_FOUND).
    """
    path = os.path.realpath(text(request, "path"), strict=True)
    argv = [*copy.program("watch_program"), path]
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    agent_end, program_end = os.pipe()
    os.set_blocking(agent_end, False)
    try:
        child, watched = spawn.spawn(
            [os.fsencode(word) for word in argv],
            {b"PATH": b"/", b"LANG": b"C.UTF-8"},
            "/",
            None,
            (null, program_end, 2),
        )
    except BaseException:
        os.close(agent_end)
        raise
    finally:
        os.close(program_end)
        os.close(null)
    run = relay.RunningCommand(child, watched, None)
    run.streams = [relay.OutputStream(agent_end, protocol.STDOUT, None)]
    relay.attend(connection, run)
