"""``write``: puts a file in place, whole or not at all. Part of process 1; standard library only."""

import os

from . import protocol
from .files import Object, Request, make_folders, must_be_regular
from .users import User, look_up
from .wire import ClientConnection, OperationError, integer, text


def write(connection: ClientConnection, request: Request, root: str) -> Object:
    """Receive DATA until END and put it at ``path``, whole or not at all.

    Instead of ``path``, ``late`` may name a folder in which the file waits (``/`` if it does not exist), and END
    carries ``{"path": ...}``. If the path is a folder, or ends with a slash, the file is put into it under ``name``, if
    the request has one. A link is followed. A new file, and folders that are made for it, belong to ``user``; an
    overwritten one keeps its owner, and its mode unless the request has one.

    Raises:
        OperationError: IS_DIRECTORY, NOT_REGULAR, ALREADY_EXISTS, or an errno (ENOSPC).
        ClientGone: the client closed before END.
    """
    user = look_up(text(request, "user"), root) if request.get("user") is not None else None
    target = None
    if request.get("late") is None:
        target = _target(request, request, user)
        folder = os.path.dirname(target)
    else:
        folder = text(request, "late")
        folder = folder if os.path.isdir(folder) else "/"
    temporary, fd = _temporary(folder)
    try:
        try:
            size, end = _receive(connection, fd)
            if target is None:
                target = _target(request, protocol.decode_object(end or b"{}"), user)
                if os.stat(os.path.dirname(target)).st_dev != os.fstat(fd).st_dev:
                    temporary, fd = _moved(temporary, fd, os.path.dirname(target))
            _give(fd, target, integer(request, "mode", None), user)
        finally:
            os.close(fd)
        if request.get("overwrite", True):
            os.rename(temporary, target)
        else:
            os.link(temporary, target)  # unlike rename, it fails if the target exists by now
            os.unlink(temporary)
    except BaseException:
        try:  # noqa: SIM105
            os.unlink(temporary)
        except OSError:
            pass
        raise
    return {"size": size, "path": target}


def _target(request: Request, place: Request, user: User | None) -> str:
    """The path of the file; makes the folders above it."""
    path = text(place, "path")
    if request.get("name") is not None and (path.endswith("/") or os.path.isdir(path)):
        path = os.path.join(path, os.path.basename(text(request, "name")))
    target = os.path.realpath(path)
    old = _state(target)
    if old is not None:
        must_be_regular(path, old)
        if not request.get("overwrite", True):
            raise OperationError("ALREADY_EXISTS", f"{path} already exists")
    if path.endswith("/"):
        raise OperationError("IS_DIRECTORY", f"{path} names a folder")
    if request.get("mkdirs", True):
        for made in make_folders(os.path.dirname(target)):
            if user is not None:
                os.chown(made, user.uid, user.gid)
    return target


def _temporary(folder: str) -> tuple[str, int]:
    path = os.path.join(folder, ".thawbox-" + os.urandom(8).hex())
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _moved(path: str, fd: int, folder: str) -> tuple[str, int]:
    """Move the file to the file system of ``folder``; returns its new path and ``fd``, which stays open."""
    new, copy = _temporary(folder)
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        while data := os.read(fd, protocol.FRAME_MAX):
            _write_all(copy, data)
        os.unlink(path)
    except BaseException:
        os.close(copy)
        os.unlink(new)
        raise
    os.dup2(copy, fd, inheritable=False)
    os.close(copy)
    return new, fd


def _give(fd: int, target: str, mode: int | None, user: User | None) -> None:
    """Set owner and mode of the file that is to replace ``target``."""
    old = _state(target)
    if old is None:
        if user is not None:
            os.fchown(fd, user.uid, user.gid)
    elif (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, old.st_uid, old.st_gid)
    if mode is None:
        mode = 0o644 if old is None else old.st_mode
    os.fchmod(fd, mode & 0o7777)  # after chown, which clears the setuid bits


def _state(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _receive(connection: ClientConnection, fd: int) -> tuple[int, bytes]:
    """Write DATA to ``fd`` until END; returns the number of bytes and the payload of END."""
    size = 0

    def store(piece: memoryview) -> None:
        nonlocal size
        _write_all(fd, piece)
        size += len(piece)

    end = connection.receive_stream(store)
    return size, end


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
