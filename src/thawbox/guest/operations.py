"""The agent's operations: what each takes and answers, per version of the protocol.

Agents live on in snapshots that older servers made, so a server must know what they understand. A change of an
operation's fields or frames needs a new ``protocol.VERSION``: end the old row with ``until``, and add one that begins
with ``since``. docs/contributing/add-an-agent-operation.md says how; ``tests/unit/agent`` has a record of each version.

This table is not in ``agent/``, because what the agent imports costs memory in every sandbox.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from thawbox.agent import protocol

Shape = Mapping[str, str]
"""Field -> JSON type (string, integer, number, boolean, list, object, any); with ``?``: may be absent or null."""


@dataclass(frozen=True)
class Operation:
    """One operation as agents of the versions ``since`` to ``until`` (None: the newest) have it.

    ``sends``: frames that may follow the request. ``answers``: each frame that the agent may send, with the fields of
    the JSON object in it, or of each object in the list in it (``LISTS``); None: plain bytes. Instead of them, or
    after some of them, every operation may answer ERROR with ``ERROR_SHAPE``.
    """

    name: str
    takes: Shape
    answers: Mapping[str, Shape | None]
    sends: tuple[str, ...] = ()
    since: int = 0
    until: int | None = None


ERROR_SHAPE: Shape = {"code": "string", "message": "string"}
LISTS = frozenset(("list", "processes"))
"""Operations whose DATA frames each hold a JSON list of objects."""

_PROGRAM: Shape = {
    "argv": "list?",
    "shell": "string?",
    "env": "object?",
    "cwd": "string?",
    "user": "string?",
    "timeout": "number?",
    "output_limit": "integer?",
    "imports": "list?",
}
_EXIT: Shape = {
    "code": "integer",
    "signal": "integer?",
    "timed_out": "boolean",
    "truncated": "boolean",
    "seconds": "number",
}
_STATE: Shape = {
    "type": "string",
    "size": "integer",
    "mode": "integer",
    "uid": "integer",
    "gid": "integer",
    "mtime": "number",
}
_LINK: Shape = {"target": "string?", "leads_to": "string?"}
_STARTED: Shape = {"pid": "integer"}
_PING: Shape = {"pid": "integer", "uptime": "number", "time": "number"}
_INIT: Shape = {
    "template_env": "object?",
    "env": "object?",
    "env_add": "object?",
    "entropy": "string?",
    "hosts": "string?",
    "hostname_file": "string?",
    "resolv_conf": "string?",
}

OPERATIONS: tuple[Operation, ...] = (
    Operation("ping", {}, {"RESULT": _PING}, until=0),
    Operation("ping", {}, {"RESULT": {**_PING, "version": "integer"}}, since=1),
    Operation(
        "spawn",
        {
            **_PROGRAM,
            "stdin": "boolean?",
            "detach": "boolean?",
            "log": "string?",
            "scratch": "boolean?",
            "result_limit": "integer?",
        },
        {"STARTED": _STARTED, "STDOUT": None, "STDERR": None, "VALUE": None, "EXIT": _EXIT},
        ("STDIN", "STDIN_EOF", "SIGNAL"),
    ),
    Operation(
        "terminal",
        {**_PROGRAM, "rows": "integer", "cols": "integer"},
        {"STARTED": _STARTED, "STDOUT": None, "STDERR": None, "EXIT": _EXIT},
        ("STDIN", "STDIN_EOF", "SIGNAL", "RESIZE"),
    ),
    Operation("watch", {"path": "string"}, {"STARTED": _STARTED, "STDOUT": None, "EXIT": _EXIT}),
    Operation(
        "init",
        {**_INIT, "hostname": "string?", "name_servers": "list?"},
        {"RESULT": {}},
        until=0,
    ),
    Operation("init", _INIT, {"RESULT": {}}, since=1),
    Operation(
        "env",
        {"action": "string?", "env": "object?", "name": "string?", "user": "string?"},
        {"RESULT": {"env": "object"}},
    ),
    Operation(
        "job",
        {**_PROGRAM, "id": "string", "meta": "object?", "stdin": "boolean?", "scratch": "boolean?"},
        {"RESULT": {"id": "string", "pid": "integer", "started": "number"}},
        ("DATA", "END"),
    ),
    Operation(
        "jobs",
        {"id": "string?", "tail": "integer?"},
        {
            "DATA": {
                "id": "string",
                "meta": "object",
                "pid": "integer",
                "started": "number",
                "ended": "number?",
                "seconds": "number",
                "code": "integer?",
                "killed": "boolean",
                "timed_out": "boolean",
                "truncated": "boolean",
                "stdout": "string",
                "stderr": "string",
                "log": "string",
            },
            "END": None,
        },
    ),
    Operation(
        "kill", {"id": "string?", "pid": "integer?"}, {"RESULT": {"id": "string?", "killed": "boolean"}}
    ),
    Operation(
        "processes",
        {},
        {
            "DATA": {
                "pid": "integer",
                "ppid": "integer",
                "name": "string",
                "state": "string",
                "user": "string",
                "cpu": "number",
                "age": "number",
                "memory": "integer",
                "command": "string",
            },
            "END": None,
        },
    ),
    Operation(
        "describe",
        {"names": "list?"},
        {
            "RESULT": {
                "os_release": "string",
                "timezone": "string",
                "kernel": "string",
                "machine": "string",
                "hostname": "string",
                "cpu_model": "string",
                "programs": "list",
            }
        },
    ),
    Operation(
        "signal", {"pid": "integer", "signal": "integer", "group": "boolean?"}, {"RESULT": {}}, until=0
    ),
    Operation("status", {"pid": "integer"}, {"RESULT": {"running": "boolean", "code": "integer?"}}),
    Operation(
        "read",
        {"path": "string", "offset": "integer?", "length": "integer?"},
        {"RESULT": _STATE, "DATA": None, "END": None},
    ),
    Operation(
        "write",
        {
            "path": "string?",
            "late": "string?",
            "name": "string?",
            "mode": "integer?",
            "overwrite": "boolean?",
            "mkdirs": "boolean?",
            "user": "string?",
        },
        {"RESULT": {"size": "integer", "path": "string"}},
        ("DATA", "END"),
    ),
    Operation("stat", {"path": "string", "follow": "boolean?"}, {"RESULT": {**_STATE, **_LINK}}),
    Operation("list", {"path": "string"}, {"DATA": {"name": "string", **_STATE, **_LINK}, "END": None}),
    Operation(
        "mkdir",
        {"path": "string", "mode": "integer?", "parents": "boolean?", "user": "string?"},
        {"RESULT": {}},
    ),
    Operation("remove", {"path": "string", "recursive": "boolean?"}, {"RESULT": {}}),
    Operation("probe", {"kind": "string", "target": "any"}, {"RESULT": {"ok": "boolean"}}),
    Operation(
        "usage",
        {},
        {
            "RESULT": {
                "memory_total": "integer",
                "memory_used": "integer",
                "load": "list",
                "cpus": "integer",
                "processes": "integer",
                "disk_total": "integer",
                "disk_used": "integer",
            }
        },
    ),
    Operation(
        "place",
        {"dest": "string?", "cwd": "string?", "owner": "string?", "permissions": "string?"},
        {"RESULT": {"files": "integer", "bytes": "integer"}},
        ("DATA", "END"),
    ),
    Operation(
        "warm",
        {**_PROGRAM, "modules": "list", "count": "integer?", "memory": "integer?"},
        {"RESULT": {"children": "integer"}},
    ),
    Operation(
        "ask",
        {"socket": "string", "question": "object", "user": "string?"},
        {"DATA": None, "END": None},
    ),
    Operation("dial", {"port": "integer"}, {"STARTED": {}, "DATA": None, "END": None}, ("DATA", "END")),
    Operation("quiesce", {}, {"RESULT": {}}),
    Operation("renew", {}, {"RESULT": {}}),
)


def operations(version: int = protocol.VERSION) -> dict[str, Operation]:
    """The operations that an agent of protocol ``version`` has, by name.

    Version 0 stands for agents whose ``ping`` has no version. They were made before versions were counted; the oldest
    of them have fewer operations than this says.
    """
    return {
        row.name: row
        for row in OPERATIONS
        if row.since <= version and (row.until is None or version <= row.until)
    }


def unknown(name: str) -> str:
    """A sentence for the user about an agent that has answered that it has no operation ``name``."""
    newest = operations().get(name)
    if newest is None:
        return f"the agent has no operation {name!r}, and neither has this version of Thawbox"
    since = min(row.since for row in OPERATIONS if row.name == name)
    return (
        f"the agent in this sandbox is too old: it has no operation {name!r} "
        f"(agent protocol {since} or newer); build the sandbox's template again"
    )
