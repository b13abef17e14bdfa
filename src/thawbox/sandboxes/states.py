"""What may be asked of a sandbox in which state (contract D)."""

from __future__ import annotations

import enum

from thawbox.errors import InvalidState
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow


class Action(enum.Enum):
    """What changes a sandbox's state."""

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
    SandboxStatus.CREATING: "wait until it runs",
    SandboxStatus.RUNNING: "it runs",
    SandboxStatus.PAUSED: "resume it first",
    SandboxStatus.STOPPED: "start it first",
    SandboxStatus.ERROR: "delete it",
}
_IN_WORDS = {SandboxStatus.CREATING: "being created", SandboxStatus.ERROR: "in error"}


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


def in_words(status: SandboxStatus) -> str:
    """The state inside a sentence."""
    return _IN_WORDS.get(status, status.value)
