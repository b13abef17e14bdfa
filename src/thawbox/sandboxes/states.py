"""What may be asked of a sandbox in which state (contract D)."""

from __future__ import annotations

import enum

from thawbox.errors import InvalidState
from thawbox.store.sandboxes import SandboxRow


class Action(enum.Enum):
    """What changes a sandbox's state."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    START = "start"


_LEADS_TO = {
    Action.PAUSE: "paused",
    Action.RESUME: "running",
    Action.STOP: "stopped",
    Action.START: "running",
}
_FROM = {
    Action.PAUSE: ("running",),
    Action.RESUME: ("paused",),
    Action.STOP: ("creating", "running", "paused"),
    Action.START: ("stopped",),
}
_REMEDY = {
    "creating": "wait until it runs",
    "running": "it runs",
    "paused": "resume it first",
    "stopped": "start it first",
    "error": "delete it",
}


def applies(action: Action, row: SandboxRow) -> bool:
    """Whether there is something to do; False: it is in the target state already.

    Raises:
        InvalidState: the state does not allow it.
    """
    if row.status == _LEADS_TO[action]:
        return False
    if row.status in _FROM[action]:
        return True
    why = f" ({row.reason})" if row.reason else ""
    raise InvalidState(
        f"Cannot {action.value} sandbox {row.id}, which is {in_words(row.status)}{why}: {_REMEDY[row.status]}."
    )


def in_words(status: str) -> str:
    """The state inside a sentence."""
    return {"creating": "being created", "error": "in error"}.get(status, status)
