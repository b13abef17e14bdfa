"""Users and groups of the sandbox, read from its own /etc/passwd and /etc/group.

The agent's C library is not the template's, so its name service cannot be used. Used by process 1 and by
``copy_program``; standard library only.
"""

import os


class UnknownUser(Exception):
    """No such user or group in this image."""


class User:
    """The user that a command runs as: numeric ids, supplementary groups, name and home folder."""

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, uid: int, gid: int, groups: list[int], name: str, home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.name = name
        self.home = home

    @property
    def is_root(self) -> bool:
        """Uid 0 with gid 0. Supplementary groups give it no further rights."""
        return self.uid == 0 and self.gid == 0


def look_up(spec: str, root: str = "") -> User:
    """The user that ``spec`` names: ``name``, ``uid``, ``name:group`` or ``uid:gid``, as in Docker's USER.

    A number that is not in /etc/passwd is used as it is, with group 0 and home ``/``. An explicit group
    drops the supplementary ones. ``root`` is put before ``/etc``.

    Raises:
        UnknownUser: the name is not in /etc/passwd or /etc/group.
    """
    wanted, _, wanted_group = spec.partition(":")
    wanted = wanted or "root"
    entry = _find(_table(root + "/etc/passwd", 7), wanted, 2)
    if entry is not None:
        uid, gid, name, home = int(entry[2]), int(entry[3]), entry[0], entry[5] or "/"
    elif wanted in ("root", "0"):  # an empty root has no /etc/passwd
        uid, gid, name, home = 0, 0, "root", "/root"
    elif (number := _number(wanted)) is not None:
        uid, gid, name, home = number, 0, wanted, "/"
    else:
        raise UnknownUser(f"user {wanted!r} is not in /etc/passwd of this image; create it or give a uid")
    if wanted_group:
        return User(uid, _group(wanted_group, root), [], name, home)
    groups = [] if entry is None else _memberships(name, root)
    return User(uid, gid, groups, name, home)


def owner_ids(spec: str, root: str = "") -> tuple[int, int]:
    """Uid and gid of ``user``, ``user:group`` or ``:group``, as in Docker's ``COPY --chown``.

    Raises:
        UnknownUser: see ``look_up``.
    """
    user = look_up(spec, root)
    return user.uid, user.gid


def names_by_uid(root: str = "") -> dict[int, str]:
    """User names by uid; of several names for one uid the first."""
    names: dict[int, str] = {}
    for entry in _table(root + "/etc/passwd", 7):
        names.setdefault(int(entry[2]), entry[0])
    names.setdefault(0, "root")  # an empty root has no /etc/passwd
    return names


def _group(wanted: str, root: str) -> int:
    entry = _find(_table(root + "/etc/group", 4), wanted, 2)
    if entry is not None:
        return int(entry[2])
    if wanted == "root":
        return 0
    if (number := _number(wanted)) is not None:
        return number
    raise UnknownUser(f"group {wanted!r} is not in /etc/group of this image; create it or give a gid")


def _memberships(name: str, root: str) -> list[int]:
    return [int(entry[2]) for entry in _table(root + "/etc/group", 4) if name in entry[3].split(",")]


def _find(table: list[list[str]], wanted: str, number_field: int) -> list[str] | None:
    for entry in table:
        if entry[0] == wanted:
            return entry
    for entry in table:
        if entry[number_field] == wanted:
            return entry
    return None


def _table(path: str, fields: int) -> list[list[str]]:
    """The fields of each well-formed line of a passwd-like file. Ids must be plain numbers."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.rstrip("\n").split(":") for line in file]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return []
    ids = (2, 3) if fields == 7 else (2,)
    return [
        line for line in lines if len(line) >= fields and all(_number(line[at]) is not None for at in ids)
    ]


def _number(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < 2**32 - 1:
        return int(text)
    return None


def home_of(user: User) -> str:
    """The user's home folder if it exists, else ``/``."""
    return user.home if os.path.isdir(user.home) else "/"
