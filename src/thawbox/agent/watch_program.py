"""Prints changes below a path, one JSON object per line. A program of its own, started by ``watch``.

Standard library only; needs ``ctypes``, which process 1 does without. It uses inotify if the kernel has it, else it
compares listings every second; the first line says which. It ends when its reader closes the pipe.
"""

import contextlib
import ctypes
import errno
import json
import os
import select
import stat
import struct
import time

WATCHES_MAX = 8192
"""Most folders that are watched; changes in further ones are not seen."""
NAMES_MAX = 200_000
"""Most file names that are remembered, to tell a new file from a replaced one."""
GATHER_S = 0.03
"""Seconds within which changes of one path are merged."""
GATHER_MAX = 5000
"""Most changes that wait to be written."""
POLL_S = 1.0
HIDDEN = ".thawbox-"
"""Beginning of the names of files that are being written; they are renamed when they are complete."""

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF = 0x40, 0x80, 0x100, 0x200, 0x400, 0x800
OVERFLOW, IGNORED, IS_DIR, DONT_FOLLOW = 0x4000, 0x8000, 0x4000_0000, 0x200_0000
MASK = (
    MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF
) | DONT_FOLLOW
HEADER = struct.Struct("iIII")


class Changes:
    """Changes that wait to be written; repetitions are dropped."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], dict[str, object]] = {}
        self.since: float | None = None
        """Time of the first of them, on the monotonic clock."""

    def add(self, event: str, path: str, **more: object) -> None:
        """A change of ``path``."""
        if event == "modified" and ("created", path) in self._waiting:
            return
        self._waiting.setdefault((event, path), {"event": event, "path": path, "time": time.time(), **more})
        self.since = self.since or time.monotonic()
        if len(self._waiting) >= GATHER_MAX:
            self.flush()

    def flush(self) -> None:
        """Write them. Blocks while the reader does not read: then the kernel's queue fills up, which is bounded."""
        lines = "".join(json.dumps(change) + "\n" for change in self._waiting.values())
        self._waiting.clear()
        self.since = None
        write(lines)


def write(text: str) -> None:
    """Write all of ``text`` to standard output."""
    data = memoryview(text.encode("ascii"))
    while data:
        data = data[os.write(1, data) :]


class Inotify:
    """Folders below ``root``, watched by the kernel."""

    def __init__(self, root: str) -> None:
        """Raises:
        OSError: the kernel has no inotify, or no more of it.
        """
        self.root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._paths: dict[int, str] = {}
        self._names: set[str] = set()
        self._moved: dict[int, str] = {}
        if not self._watch(root):
            raise OSError(ctypes.get_errno(), "inotify_add_watch")
        self._scan(root, None)

    def _watch(self, path: str) -> bool:
        if len(self._paths) >= WATCHES_MAX:
            return False
        number = self._libc.inotify_add_watch(self.fd, os.fsencode(path), MASK)
        if number >= 0:
            self._paths[number] = path
        return bool(number >= 0)

    def _scan(self, folder: str, changes: Changes | None) -> None:
        """Watch the folders below ``folder``. With ``changes``, everything in them is reported as created."""
        waiting = [folder]
        while waiting:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    self._know(entry.path)
                    if changes is not None:
                        changes.add("created", entry.path)
                    if entry.is_dir(follow_symlinks=False) and self._watch(entry.path):
                        waiting.append(entry.path)

    def _know(self, path: str) -> None:
        if len(self._names) < NAMES_MAX:
            self._names.add(path)

    def read(self, changes: Changes) -> bool:
        """Read the kernel's events into ``changes``; False when the root has been removed."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        at = 0
        here = True
        while at < len(data):
            number, mask, cookie, length = HEADER.unpack_from(data, at)
            name = data[at + HEADER.size : at + HEADER.size + length].rstrip(b"\0")
            at += HEADER.size + length
            here = self._take(number, mask, cookie, os.fsdecode(name), changes) and here
        for path in self._moved.values():  # without a matching MOVED_TO: they left the watched folders
            self._gone(path, changes)
        self._moved.clear()
        return here

    def _take(self, number: int, mask: int, cookie: int, name: str, changes: Changes) -> bool:
        if mask & OVERFLOW:
            changes.add("modified", self.root, overflow=True)
            return True
        folder = self._paths.get(number)
        if folder is None:
            return True
        if mask & (IGNORED | DELETE_SELF | MOVE_SELF):
            if mask & IGNORED:
                del self._paths[number]
            if folder == self.root and mask & (DELETE_SELF | MOVE_SELF):
                changes.add("deleted", folder)
                return False
            return True
        path = f"{folder.rstrip('/')}/{name}" if name else folder
        hidden = name.startswith(HIDDEN)
        if mask & MOVED_FROM:
            self._moved[cookie] = path
        elif mask & MOVED_TO:
            self._arrived(path, self._moved.pop(cookie, None), bool(mask & IS_DIR), changes)
        elif hidden:
            return True
        elif mask & CREATE:
            self._know(path)
            changes.add("created", path)
            if mask & IS_DIR and self._watch(path):
                self._scan(path, changes)
        elif mask & DELETE:
            self._gone(path, changes)
        elif not mask & IS_DIR:
            changes.add("modified", path)
        return True

    def _arrived(self, path: str, old: str | None, is_folder: bool, changes: Changes) -> None:
        known = path in self._names
        self._know(path)
        if old is None or os.path.basename(old).startswith(HIDDEN):
            changes.add("modified" if known else "created", path)
        else:
            self._names.discard(old)
            changes.add("renamed", path, old_path=old)
        if is_folder:
            for number, watched in list(self._paths.items()):
                if old is not None and (watched == old or watched.startswith(old + "/")):
                    self._paths[number] = path + watched[len(old) :]
            if old is None and self._watch(path):
                self._scan(path, changes)

    def _gone(self, path: str, changes: Changes) -> None:
        self._names.discard(path)
        if not os.path.basename(path).startswith(HIDDEN):
            changes.add("deleted", path)


State = dict[str, tuple[int, int, int]]


def listing(root: str) -> State:
    """Time (ns), size and inode of everything at and below ``root``, at most ``NAMES_MAX`` paths."""
    found: State = {}
    waiting = [root]
    while waiting and len(found) < NAMES_MAX:
        path = waiting.pop()
        with contextlib.suppress(OSError):
            state = os.lstat(path)
            if not os.path.basename(path).startswith(HIDDEN):
                found[path] = (state.st_mtime_ns, state.st_size, state.st_ino)
            if stat.S_ISDIR(state.st_mode):
                waiting += [f"{path.rstrip('/')}/{name}" for name in os.listdir(path)]
    return found


def compare(old: State, new: State, changes: Changes) -> None:
    """Add the differences of two listings to ``changes``; a rename is a deletion and a creation here."""
    for path, state in new.items():
        if path not in old:
            changes.add("created", path)
        elif old[path] != state and not os.path.isdir(path):
            changes.add("modified", path)
    for path in old:
        if path not in new:
            changes.add("deleted", path)


def watch(root: str) -> None:
    """Report changes until the root has been removed, or the reader has closed the pipe."""
    changes = Changes()
    poller = select.poll()
    poller.register(1, 0)  # an error when the reader has closed the pipe
    try:
        inotify = Inotify(root)
    except OSError as error:
        reason = errno.errorcode.get(error.errno or 0, "?")
        write(json.dumps({"event": "watching", "method": f"polling ({reason})"}) + "\n")
        old = listing(root)
        while not poller.poll(POLL_S * 1000) and root in old:
            new = listing(root)
            compare(old, new, changes)
            changes.flush()
            old = new
        return
    poller.register(inotify.fd, select.POLLIN)
    write(json.dumps({"event": "watching", "method": "inotify"}) + "\n")
    here = True
    while here:
        left = None if changes.since is None else changes.since + GATHER_S - time.monotonic()
        if left is not None and left <= 0:
            changes.flush()
            continue
        ready = dict(poller.poll(None if left is None else int(left * 1000) + 1))
        if 1 in ready:
            return
        if inotify.fd in ready:
            here = inotify.read(changes)
    changes.flush()


def main(arguments: list[str]) -> None:
    """Watch the folder that the only argument names."""
    with contextlib.suppress(BrokenPipeError):
        watch(arguments[0])
