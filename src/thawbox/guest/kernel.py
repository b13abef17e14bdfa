"""The IPython kernel of a sandbox. ``agent/python/kernel.py`` owns it inside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from thawbox.agent_image import MOUNT_POINT

from .channel import QUICK_S, Endpoint, GuestError, deadline
from .commands import Completed, run
from .unix_socket import request_program

SOCKET = "/tmp/thawbox-kernel-{uid}/kernel.sock"
PROGRAM = f"{MOUNT_POINT}/python/kernel.py"
NO_IPYKERNEL = 3
"""Exit status of ``start_kernel``'s command if the template's Python lacks it."""
START_S = 90.0
SLACK_S = 90.0
"""A cell may wait as long as it may run; after that the kernel may have to be started again."""


async def start_kernel(endpoint: Endpoint, *, user: str | None, cwd: str, wait: bool) -> Completed:
    """Start the kernel unless it runs; with ``wait``, return when it can run code. The exit code is ``kernel.py``'s.

    Raises:
        GuestError, GuestFault: see ``run``.
    """
    words = [PROGRAM, "start", *(["--wait"] if wait else [])]
    done = None
    for python in ("python3", "python"):
        done = await run(endpoint, argv=[python, *words], user=user, cwd=cwd, timeout=START_S)
        if done.pid != 0:
            break
    assert done is not None
    return done


async def run_cell(
    endpoint: Endpoint, *, user: str | None, sandbox: str, code: str, timeout: float, env: Mapping[str, str]
) -> AsyncGenerator[dict[str, Any], None]:
    """Run a cell; yields its events as ``kernel.py`` sends them, unchecked. Closing the iterator interrupts the cell.

    Raises:
        GuestError: NOT_LISTENING: there is no kernel. INVALID: the code is too long. NONSENSE: see
            ``request_program``.
        GuestFault: the agent does not answer, or the cell takes longer than it may.
    """
    question = {"op": "execute", "code": code, "timeout": timeout, "env": dict(env), "sandbox": sandbox}
    async with deadline(2 * timeout + SLACK_S), aclosing(_request(endpoint, question, user)) as events:
        async for event in events:
            yield event


async def kernel_status(endpoint: Endpoint, *, user: str | None) -> dict[str, Any] | None:
    """``kernel_id``, ``execution_state``, ``connections``, ``last_activity`` (seconds since 1970); None: no kernel.

    Raises:
        GuestError, GuestFault: see ``run_cell``.
    """
    try:
        async with deadline(QUICK_S), aclosing(_request(endpoint, {"op": "status"}, user)) as answers:
            async for answer in answers:
                return answer
    except GuestError as error:
        if error.code != "NOT_LISTENING":
            raise
        return None
    return None


def _request(
    endpoint: Endpoint, question: Mapping[str, Any], user: str | None
) -> AsyncGenerator[dict[str, Any], None]:
    return request_program(endpoint, SOCKET, question, user=user)
