"""Warm interpreters: ``agent/python/warm.py`` runs inside."""

from collections.abc import Sequence

from thawbox.agent_image import MOUNT_POINT

from .channel import Endpoint, GuestError, call
from .fields import field

PROGRAM = f"{MOUNT_POINT}/python/warm.py"
START_S = 150.0


async def start_warm(
    endpoint: Endpoint, modules: Sequence[str], *, user: str | None, cwd: str, memory: int
) -> int:
    """Start interpreters of ``user`` that have imported ``modules`` and wait for code; returns how many wait.

    ``memory`` (bytes) is what the sandbox may use: without room for them they are not started again.

    Raises:
        GuestError: WARM_FAILED, with a sentence that says why; NO_CWD, UNKNOWN_USER.
        GuestFault: the agent does not answer.
    """
    fields = {"modules": list(modules), "user": user, "cwd": cwd, "memory": memory}
    try:
        answer = await call(endpoint, "warm", {**fields, "argv": ["python3", PROGRAM]}, START_S)
    except GuestError as error:
        if "command not found" not in error.message:
            raise
        answer = await call(endpoint, "warm", {**fields, "argv": ["python", PROGRAM]}, START_S)
    return field(answer, "children", int)
