"""Which change of state is allowed in which state.

The table: docs/reference/compatibility/sandboxes.md#states.
"""

from __future__ import annotations

import enum

from thawbox.errors import InvalidState
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow


class Action(enum.Enum):
    """A change of state that a client can request."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    START = "start"


_LEADS_TO = {
    Action.PAUSE: SandboxStatus.PAUSED,
    Action.RESUME: SandboxStatus.RUNNING,
    Action.STOP: SandboxStatus.STOPPED,
    Action.START: SandboxStatus.RUNNING,
}
_FROM = {
    Action.PAUSE: (SandboxStatus.RUNNING,),
    Action.RESUME: (SandboxStatus.PAUSED,),
    Action.STOP: (SandboxStatus.CREATING, SandboxStatus.RUNNING, SandboxStatus.PAUSED),
    Action.START: (SandboxStatus.STOPPED,),
}
_REMEDY = {
    SandboxStatus.CREATING: "wait until it is running",
    SandboxStatus.RUNNING: "it is running",
    SandboxStatus.PAUSED: "resume it first",
    SandboxStatus.STOPPED: "start it first",
    SandboxStatus.ERROR: "delete it",
}
_IN_WORDS = {SandboxStatus.CREATING: "being created", SandboxStatus.ERROR: "in error"}


def applies(action: Action, row: SandboxRow) -> bool:
    """Whether the action has to be done; False: the sandbox is in the target state already.

    Raises:
        InvalidState: the state does not allow the action.
    """
    if row.status == _LEADS_TO[action]:
        return False
    if row.status in _FROM[action]:
        return True
    why = f" ({row.reason})" if row.reason else ""
    raise InvalidState(
        f"Cannot {action.value} sandbox {row.id}, which is {in_words(row.status)}{why}: {_REMEDY[row.status]}."
    )


def in_words(status: SandboxStatus) -> str:
    """The status as it reads after "is" in a sentence."""
    return _IN_WORDS.get(status, status.value)
