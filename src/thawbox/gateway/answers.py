"""Fields that many answers of the sandbox API share.

Each room has its answers in a module ``answers``, as typed dictionaries: mypy checks what the routes build, the
OpenAPI document takes its schemas from them, and a request pays nothing for it. ``X | None`` is null where there is
nothing; ``NotRequired`` is absent there.
"""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict


class Traced(TypedDict):
    """An answer that names its request."""

    request_id: str


class Stamped(Traced):
    """An answer with the time at which it was made, RFC 3339 in UTC."""

    timestamp: str


def answers(model: Any) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route that answers with ``model``. Only documents; nothing is checked or serialised."""
    return {200: {"model": model}}
