"""``read``, ``stat``, ``list``, ``mkdir``, ``remove``: files of the sandbox. Part of process 1; standard library only.

Everything is done as root. Nothing here ever opens a pipe or a device, which could block or have an effect.
"""

import errno
import os
import stat

from . import protocol
from .users import look_up
from .wire import ClientConnection, OperationError, integer, text

Request = dict[str, object]
Object = dict[str, object]

PAGE = 1000
"""Entries of a folder in one DATA frame."""
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_CODES = {errno.ENOENT: "NOT_FOUND", errno.EEXIST: "ALREADY_EXISTS", errno.EISDIR: "IS_DIRECTORY"}


def operation_error(error: OSError, path: str) -> OperationError:
    """The client's view of an operating system error: NOT_FOUND and the like, else the errno's name."""
    number = error.errno or 0
    code = _CODES.get(number) or errno.errorcode.get(number, "EIO")
    return OperationError(code, f"{path}: {(error.strerror or str(error)).lower()}")


def read(connection: ClientConnection, request: Request) -> None:
    """Send RESULT with the file's state, DATA, END.

    Raises:
        OperationError: NOT_FOUND, IS_DIRECTORY, NOT_REGULAR, or an errno.
    """
    path = text(request, "path")
    offset = integer(request, "offset", 0) or 0
    left = integer(request, "length", None)
    must_be_regular(path, os.stat(path))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        state = os.fstat(fd)
        must_be_regular(path, state)
        connection.send_object(protocol.RESULT, _describe(state))
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        _send(connection, fd, left)
        connection.send(protocol.END)
    finally:
        os.close(fd)


def _send(connection: ClientConnection, fd: int, left: int | None) -> None:
    """Send the rest of ``fd`` as DATA, at most ``left`` bytes, through one buffer: fresh memory is slow in here."""
    with memoryview(bytearray(protocol.HEADER + protocol.BLOCK)) as buffer:
        while left is None or left > 0:
            room = protocol.BLOCK if left is None else min(left, protocol.BLOCK)
            count = os.readv(fd, [buffer[protocol.HEADER : protocol.HEADER + room]])
            if not count:
                return
            buffer[: protocol.HEADER] = protocol.encode_header(protocol.DATA, count)
            connection.send_bytes(buffer[: protocol.HEADER + count])
            if left is not None:
                left -= count


def must_be_regular(path: str, state: os.stat_result) -> None:
    """Raises:
    OperationError: IS_DIRECTORY or NOT_REGULAR: ``path`` is not a regular file.
    """
    if stat.S_ISDIR(state.st_mode):
        raise OperationError("IS_DIRECTORY", f"{path} is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise OperationError("NOT_REGULAR", f"{path} is not a regular file")


def make_folders(path: str, mode: int = 0o755) -> list[str]:
    """Make ``path`` and the missing folders above it; returns those that were made, outermost first."""
    missing: list[str] = []
    while path not in ("", "/") and not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    missing.reverse()
    for folder in missing:
        os.mkdir(folder, mode)
        os.chmod(folder, mode)
    return missing


def stat_path(request: Request) -> Object:
    """The state of ``path``; of a link itself unless ``follow``.

    Raises:
        OperationError: NOT_FOUND or an errno.
    """
    return describe_path(text(request, "path"), bool(request.get("follow")))


def describe_path(path: str, follow: bool = False) -> Object:
    """Type, size, mode, owner and times; for a link also ``target`` and, if it leads anywhere, ``leads_to``."""
    state = os.stat(path) if follow else os.lstat(path)
    description = _describe(state)
    if description["type"] == "symlink":
        description["target"] = os.readlink(path)
        try:  # noqa: SIM105
            description["leads_to"] = _describe(os.stat(path))["type"]
        except OSError:
            pass
    return description


def _describe(state: os.stat_result) -> Object:
    return {
        "type": _TYPES.get(stat.S_IFMT(state.st_mode), "unknown"),
        "size": state.st_size,
        "mode": stat.S_IMODE(state.st_mode),
        "uid": state.st_uid,
        "gid": state.st_gid,
        "mtime": state.st_mtime,
    }


def list_folder(connection: ClientConnection, request: Request) -> None:
    """Send DATA frames, each a JSON list of entries sorted by name, then END.

    Raises:
        OperationError: NOT_FOUND, ENOTDIR, or another errno.
    """
    path = text(request, "path")
    names = sorted(os.listdir(path))
    for at in range(0, len(names), PAGE):
        entries: list[Object] = []
        for name in names[at : at + PAGE]:
            try:
                entries.append({"name": name, **describe_path(os.path.join(path, name))})
            except FileNotFoundError:
                continue  # removed meanwhile
        connection.send(protocol.DATA, protocol.encode_json(entries))
    connection.send(protocol.END)


def mkdir(request: Request, root: str) -> Object:
    """Make a folder; with ``parents`` an existing one is fine. New folders belong to ``user``.

    Raises:
        OperationError: ALREADY_EXISTS, NOT_FOUND, or another errno.
    """
    path = text(request, "path")
    user = look_up(text(request, "user"), root) if request.get("user") is not None else None
    given = integer(request, "mode", None)
    mode = 0o755 if given is None else given & 0o7777
    if request.get("parents"):
        if os.path.isdir(path):
            return {}
        made = make_folders(os.path.dirname(path.rstrip("/")))
    else:
        made = []
    os.mkdir(path, mode)
    os.chmod(path, mode)
    if user is not None:
        for folder in (*made, path):
            os.chown(folder, user.uid, user.gid)
    return {}


def is_root(path: str) -> bool:
    """Whether ``path`` is the root folder, however it is written (``/``, ``//``, ``/tmp/..``, a bind mount of it).

    Compared by device and inode: ``os.path.abspath("//")`` is ``//``, not ``/``.
    """
    try:
        return os.path.samestat(os.stat(path), os.stat("/"))
    except OSError:
        return False


def remove(request: Request) -> Object:
    """Remove a file, a link, an empty folder, or with ``recursive`` a folder and all in it.

    Raises:
        OperationError: NOT_FOUND, ENOTEMPTY, or another errno.
    """
    path = text(request, "path")
    state = os.lstat(path)
    if not stat.S_ISDIR(state.st_mode):
        os.unlink(path)
        return {}
    if is_root(path):
        raise OperationError("INVALID", "/ cannot be removed")
    if request.get("recursive"):
        # fwalk holds folders by descriptor: swapping one for a link does not lead out of the tree.
        for _, folders, files, fd in os.fwalk(path, topdown=False, follow_symlinks=False):
            for name in files:
                os.unlink(name, dir_fd=fd)
            for name in folders:
                try:
                    os.rmdir(name, dir_fd=fd)
                except NotADirectoryError:  # a link to a folder
                    os.unlink(name, dir_fd=fd)
    os.rmdir(path)
    return {}


def replace_text(path: str, content: str) -> None:
    """Make ``path`` hold ``content``; left alone if it does already. A link is replaced, not followed."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            if not os.path.islink(path) and file.read() == content:
                return
    except OSError:
        pass
    make_folders(os.path.dirname(path))
    temporary = path + ".thawbox"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(content)
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)
