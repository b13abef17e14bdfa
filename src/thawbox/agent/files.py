"""File operations inside the guest: ``read``, ``write``, ``stat``, ``list``, ``mkdir``, ``remove``.

Runs inside, standard library only. Everything is done as root; nothing here ever opens a pipe or a device,
which could block or do something.
"""

import errno
import os
import stat

from . import protocol
from .users import User, look_up
from .wire import Connection, Refused, integer, text

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


def refused(error: OSError, path: str) -> Refused:
    """An operating system error as what the client sees: NOT_FOUND and the like, else the errno's name."""
    number = error.errno or 0
    code = _CODES.get(number) or errno.errorcode.get(number, "EIO")
    return Refused(code, f"{path}: {(error.strerror or str(error)).lower()}")


def read(connection: Connection, request: Request) -> None:
    """RESULT with the file's state, DATA, END.

    Raises:
        Refused: NOT_FOUND, IS_DIRECTORY, NOT_REGULAR, or an errno.
    """
    path = text(request, "path")
    offset = integer(request, "offset", 0) or 0
    left = integer(request, "length", None)
    _must_be_regular(path, os.stat(path))
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        state = os.fstat(fd)
        _must_be_regular(path, state)
        connection.send_object(protocol.RESULT, _describe(state))
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        _send(connection, fd, left)
        connection.send(protocol.END)
    finally:
        os.close(fd)


def _send(connection: Connection, fd: int, left: int | None) -> None:
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


def _must_be_regular(path: str, state: os.stat_result) -> None:
    if stat.S_ISDIR(state.st_mode):
        raise Refused("IS_DIRECTORY", f"{path} is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise Refused("NOT_REGULAR", f"{path} is not a regular file")


def write(connection: Connection, request: Request, root: str) -> Object:
    """Take DATA until END and put it at ``path``, whole or not at all.

    Instead of ``path``, ``late`` may name a folder where the file waits (if there is none, it is ``/``), and END
    carries ``{"path": ...}``. If the path names a folder, or ends with a slash, ``name`` is put behind it where
    the request has one. A link there is followed. A new file, and folders that are made for it, belong to
    ``user``; an overwritten one keeps its owner, and its mode unless the request has one.

    Raises:
        Refused: IS_DIRECTORY, NOT_REGULAR, ALREADY_EXISTS, or an errno (ENOSPC).
        Gone: the client closed before END.
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
            os.link(temporary, target)  # unlike rename it fails if somebody was faster
            os.unlink(temporary)
    except BaseException:
        try:  # noqa: SIM105
            os.unlink(temporary)
        except OSError:
            pass
        raise
    return {"size": size, "path": target}


def _target(request: Request, place: Request, user: User | None) -> str:
    """Where a file goes, with every folder above it."""
    path = text(place, "path")
    if request.get("name") is not None and (path.endswith("/") or os.path.isdir(path)):
        path = os.path.join(path, os.path.basename(text(request, "name")))
    target = os.path.realpath(path)
    old = _state(target)
    if old is not None:
        _must_be_regular(path, old)
        if not request.get("overwrite", True):
            raise Refused("ALREADY_EXISTS", f"{path} already exists")
    if path.endswith("/"):
        raise Refused("IS_DIRECTORY", f"{path} names a folder")
    if request.get("mkdirs", True):
        for made in make_folders(os.path.dirname(target)):
            if user is not None:
                os.chown(made, user.uid, user.gid)
    return target


def _temporary(folder: str) -> tuple[str, int]:
    path = os.path.join(folder, ".thawbox-" + os.urandom(8).hex())
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _moved(path: str, fd: int, folder: str) -> tuple[str, int]:
    """The file on the disk of ``folder``; ``fd`` stays open."""
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
    """Owner and mode of the file that takes the place of ``target``."""
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


def _receive(connection: Connection, fd: int) -> tuple[int, bytes]:
    """Write DATA to ``fd`` until END; returns how many bytes, and what END carries."""
    size = 0

    def store(piece: memoryview) -> None:
        nonlocal size
        _write_all(fd, piece)
        size += len(piece)

    end = connection.take_stream(store)
    return size, end


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def make_folders(path: str, mode: int = 0o755) -> list[str]:
    """Make ``path`` and what it lacks above it; returns what was made, outermost first."""
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
    """State of ``path``; of a link itself unless ``follow``.

    Raises:
        Refused: NOT_FOUND or an errno.
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


def list_folder(connection: Connection, request: Request) -> None:
    """DATA frames, each a JSON list of entries by name, then END.

    Raises:
        Refused: NOT_FOUND, ENOTDIR, or another errno.
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
    """Make a folder; with ``parents`` an existing one is fine. What is made belongs to ``user``.

    Raises:
        Refused: ALREADY_EXISTS, NOT_FOUND, or another errno.
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
    """Whether ``path`` is the root folder, however it is spelled (``/``, ``//``, ``/tmp/..``, a bind of it).

    Compared by what it is, not by how it is written: ``os.path.abspath("//")`` is ``//``, not ``/``.
    """
    try:
        return os.path.samestat(os.stat(path), os.stat("/"))
    except OSError:
        return False


def remove(request: Request) -> Object:
    """Remove a file, a link, an empty folder, or with ``recursive`` a folder and all in it.

    Raises:
        Refused: NOT_FOUND, ENOTEMPTY, or another errno.
    """
    path = text(request, "path")
    state = os.lstat(path)
    if not stat.S_ISDIR(state.st_mode):
        os.unlink(path)
        return {}
    if is_root(path):
        raise Refused("INVALID", "/ cannot be removed")
    if request.get("recursive"):
        # fwalk holds folders by descriptor: nobody can make us leave the tree by swapping one for a link.
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
    """Make ``path`` hold ``content``; untouched if it does already. A link there is replaced, not
    followed."""
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
