"""``watch``: runs ``watcher`` and passes on what it says. Runs inside, standard library only.

The agent loads this with the first watch.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING or __package__:
    from thawbox.guest import children, commands, copying, protocol
    from thawbox.guest.wire import Connection, text
else:
    import children
    import commands
    import copying
    import protocol
    from wire import Connection, text


def serve(connection: Connection, request: dict[str, object]) -> None:
    """Say as STDOUT what changes below ``path``, as lines of ``watcher``, until the client goes.

    Raises:
        Refused: of the path, or an errno (NOT_FOUND).
    """
    path = os.path.realpath(text(request, "path"), strict=True)
    argv = [*copying.interpreter(), copying.program("watcher"), path]
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
