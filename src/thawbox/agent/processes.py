"""``processes``: what runs in the sandbox. Part of process 1; standard library only."""

import os

from . import children, protocol
from .users import names_by_uid
from .wire import ClientConnection

PROCESSES_MAX = 2000
PAGE = 100
COMMAND_MAX = 1024
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def report(connection: ClientConnection, root: str) -> None:
    """Send DATA frames, each a list of processes, then END.

    A process has pid, parent, name, state (one letter), user, seconds of CPU, age in seconds, resident bytes, command.
    """
    users = names_by_uid(root)
    with open("/proc/uptime", encoding="ascii") as file:
        uptime = float(file.read().split()[0])
    pids = sorted(children.pids())[:PROCESSES_MAX]
    for at in range(0, len(pids), PAGE):
        page = [found for pid in pids[at : at + PAGE] if (found := _describe(pid, uptime, users)) is not None]
        connection.send(protocol.DATA, protocol.encode_json(page))
    connection.send(protocol.END)


def _describe(pid: int, uptime: float, users: dict[int, str]) -> dict[str, object] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(COMMAND_MAX).rstrip(b"\0").split(b"\0")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None  # it has ended meanwhile
    name, _, rest = state.partition("(")[2].rpartition(")")
    fields = rest.split()
    return {
        "pid": pid,
        "ppid": int(fields[1]),
        "name": name,
        "state": fields[0],
        "user": users.get(uid, str(uid)),
        "cpu": (int(fields[11]) + int(fields[12])) / _TICKS,
        "age": max(0.0, uptime - int(fields[19]) / _TICKS),
        "memory": int(fields[21]) * _PAGE_SIZE,
        "command": b" ".join(words).decode("utf-8", "replace") or f"[{name}]",
    }
