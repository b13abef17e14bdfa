"""Warm interpreters, from outside; a part of ``client``. ``python/warm.py`` is what they are inside."""

from collections.abc import Sequence

from thawbox.agent_image import MOUNT_POINT

from .channel import Endpoint, GuestError, ask, field

PROGRAM = f"{MOUNT_POINT}/python/warm.py"
START_S = 150.0


async def start_warm(
    endpoint: Endpoint, modules: Sequence[str], *, user: str | None, cwd: str, memory: int
) -> int:
    """Have interpreters of ``user`` wait that have imported ``modules``; returns how many.

    ``memory`` (bytes) is what the sandbox may have: they are not started again where there is no room.

    Raises:
        GuestError: WARM_FAILED: with the sentence of what failed; NO_CWD, UNKNOWN_USER.
        GuestFault: the agent is silent.
    """
    fields = {"modules": list(modules), "user": user, "cwd": cwd, "memory": memory}
    try:
        answer = await ask(endpoint, "warm", {**fields, "argv": ["python3", PROGRAM]}, START_S)
    except GuestError as error:
        if "command not found" not in error.message:
            raise
        answer = await ask(endpoint, "warm", {**fields, "argv": ["python", PROGRAM]}, START_S)
    return field(answer, "children", int)
