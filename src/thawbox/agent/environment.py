"""``env``: the variables that every program of the sandbox gets, in layers. Runs inside, standard library only.

From below: what a program needs to run at all (PATH, HOME, USER, LANG), what the template says, what the
sandbox's owner set. Clients that delete one variable write all others back; so what equals the layers below is
not kept as the owner's.
"""

import _thread
import os

from .users import User, home_of, look_up
from .wire import Refused, text

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_MAX = 64 * 1024
"""Bytes of names and values that the owner may set: a program's whole start block holds them, and its arguments."""


class Environment:
    """The template's layer and the owner's; each is replaced, never changed, so readers need no lock."""

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
    whom = user if user is not None else look_up("0", root)
    return {"PATH": DEFAULT_PATH, "HOME": home_of(whom), "USER": whom.name, "LANG": "C.UTF-8"}


def variables(value: object) -> dict[str, str]:
    """Environment variables as a request gives them, checked.

    Raises:
        Refused: not a table of strings, or a name or value that no environment can hold.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused("INVALID", "env must be a table of strings")
    for name, content in value.items():
        if not isinstance(content, str) or not name or "=" in name or "\0" in name or "\0" in content:
            raise Refused(
                "INVALID", f"environment variable {name!r} is not one: no =, no NUL, and a string value"
            )
    return value


def operate(request: dict[str, object], environment: Environment, root: str) -> dict[str, object]:
    """Read or change the owner's layer; answers what a program of ``user`` gets now.

    Raises:
        Refused: an unknown action, ill-formed variables, TOO_LARGE, or NOT_SET for a name to remove.
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
                raise Refused("TOO_LARGE", f"all variables together may have {OWN_MAX} bytes")
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
            raise Refused("NOT_SET", f"the sandbox has no variable {name!r} of its own")
        return {other: content for other, content in own.items() if other != name}
    raise Refused("INVALID", f"action must be get, replace, merge or remove, not {action!r}")
