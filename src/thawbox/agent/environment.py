"""``env``: the variables that every program of the sandbox gets, in layers. Part of process 1; standard library only.

From the lowest: what every program needs (PATH, HOME, USER, LANG), the template's, the sandbox owner's. Clients that
delete one variable write all others back, so a variable that equals the layers below is not kept as the owner's.
"""

import _thread
import os

from .users import User, home_of, look_up
from .wire import OperationError, text

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_MAX = 64 * 1024
"""Bytes of names and values that the owner may set: they and the arguments must fit into a program's start block."""


class Environment:
    """The template's layer and the owner's. Each is replaced, never changed in place, so readers need no lock."""

    __slots__ = ("lock", "own", "template")

    def __init__(self) -> None:
        self.template: dict[str, str] = {}
        self.own: dict[str, str] = {}
        self.lock = _thread.allocate_lock()

    def shared(self) -> dict[str, str]:
        """Both layers, the owner's on top."""
        return {**self.template, **self.own}


def needed(user: User | None, root: str) -> dict[str, str]:
    """The lowest layer, for a program that runs as ``user`` (None: root)."""
    user = user if user is not None else look_up("0", root)
    return {"PATH": DEFAULT_PATH, "HOME": home_of(user), "USER": user.name, "LANG": "C.UTF-8"}


def variables(value: object) -> dict[str, str]:
    """The environment variables in a request's field, checked; None: none.

    Raises:
        OperationError: not a table of strings, or a name or value that no environment can hold.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise OperationError("INVALID", "env must be a table of strings")
    for name, content in value.items():
        if not isinstance(content, str) or not name or "=" in name or "\0" in name or "\0" in content:
            raise OperationError(
                "INVALID", f"environment variable {name!r} must have no =, no NUL, and a string as its value"
            )
    return value


def operate(request: dict[str, object], environment: Environment, root: str) -> dict[str, object]:
    """Read or change the owner's layer; returns what a program of ``user`` gets from now on.

    Raises:
        OperationError: an unknown action, ill-formed variables, TOO_LARGE, or NOT_SET for a name to remove.
        UnknownUser: of ``users``.
    """
    user = look_up(text(request, "user"), root) if request.get("user") is not None else None
    action = text(request, "action", "get")
    given = variables(request.get("env"))
    with environment.lock:
        below = {**needed(user, root), **environment.template}
        if action != "get":
            own = _changed(action, environment.own, given, request)
            own = {name: content for name, content in own.items() if below.get(name) != content}
            if sum(len(os.fsencode(name + content)) for name, content in own.items()) > OWN_MAX:
                raise OperationError("TOO_LARGE", f"all variables together may have at most {OWN_MAX} bytes")
            environment.own = own
        return {"env": {**below, **environment.own}}


def _changed(
    action: str, own: dict[str, str], given: dict[str, str], request: dict[str, object]
) -> dict[str, str]:
    if action == "replace":
        return given
    if action == "merge":
        return {**own, **given}
    if action == "remove":
        name = text(request, "name")
        if name not in own:
            raise OperationError("NOT_SET", f"the sandbox has no variable {name!r} of its own")
        return {other: content for other, content in own.items() if other != name}
    raise OperationError("INVALID", f"action must be get, replace, merge or remove, not {action!r}")
