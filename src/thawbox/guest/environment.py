"""The environment variables of a sandbox's programs."""

from collections.abc import Mapping
from typing import Literal

from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, call
from .fields import Object, is_unicode

Action = Literal["replace", "merge", "remove"]


async def read_environment(
    endpoint: Endpoint, *, user: str | None = None, timeout: float = QUICK_S
) -> dict[str, str]:
    """The variables that a program of ``user`` (None: root) gets.

    Raises:
        GuestError: UNKNOWN_USER.
    """
    return await _call(endpoint, {"action": "get", "user": user}, timeout)


async def change_env(
    endpoint: Endpoint,
    action: Action,
    variables: Mapping[str, str] | None = None,
    *,
    name: str | None = None,
    user: str | None = None,
    timeout: float = QUICK_S,
) -> dict[str, str]:
    """Replace the sandbox's own variables, merge some into them, or remove the one called ``name``.

    Returns the variables that a program of ``user`` gets from now on. The template's variables stay below.

    Raises:
        GuestError: TOO_LARGE, NOT_SET, INVALID, UNKNOWN_USER.
    """
    fields: Object = {"action": action, "env": dict(variables or {}), "name": name, "user": user}
    return await _call(endpoint, fields, timeout)


async def _call(endpoint: Endpoint, fields: Object, timeout: float) -> dict[str, str]:
    answer = (await call(endpoint, "env", fields, timeout)).get("env")
    if not isinstance(answer, dict) or not all(
        isinstance(value, str) and is_unicode(name + value) for name, value in answer.items()
    ):
        raise GuestFault("the agent's answer has no valid 'env'")
    return answer
