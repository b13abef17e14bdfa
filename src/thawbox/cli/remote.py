"""Runs a command or code in a sandbox with one request, whose answer comes at the end. ``piped`` streams output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from .client import Unreachable, answer

_ANSWER_GRACE_S = 30


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command that has ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def run_plain(gateway: httpx.Client, command: Sequence[str], *, timeout_s: int) -> CommandResult:
    """Run ``command`` in one request. Its output comes as text: bytes that are not UTF-8 become U+FFFD.

    Raises:
        Unreachable: the sandbox does not answer.
        ApiError: the gateway answered with an error.
    """
    body = {"command": command[0], "args": list(command[1:]), "timeout": timeout_s}
    result = _call(gateway, "/commands/run", timeout_s, body)
    return CommandResult(
        exit_code=int(result["exit_code"]),
        stdout=str(result.get("stdout") or "").encode(),
        stderr=str(result.get("stderr") or "").encode(),
    )


def execute_python(gateway: httpx.Client, code: str, *, timeout_s: int) -> dict[str, Any]:
    """The answer of POST /execute to the Python code ``code``.

    Raises:
        Unreachable: the sandbox does not answer.
        ApiError: the gateway answered with an error.
    """
    return _call(gateway, "/execute", timeout_s, {"code": code, "timeout": timeout_s})


def _call(gateway: httpx.Client, path: str, timeout_s: int, body: dict[str, Any]) -> dict[str, Any]:
    patience = httpx.Timeout(timeout_s + _ANSWER_GRACE_S, connect=5)
    try:
        return answer(gateway.post(path, timeout=patience, json=body))
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"The sandbox at {gateway.base_url} does not answer: {reason}.") from error
