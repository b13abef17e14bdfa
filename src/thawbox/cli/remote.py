"""Running one command inside a sandbox, through the gateway.

The seam for a streaming interface: whoever calls ``run_command`` need not know how bytes travel.
"""

from __future__ import annotations

import base64
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from .client import Refused, Unreachable, answer
from .failure import Failure

_ANSWER_GRACE_S = 30
# $1 is a prefix for files. The shell itself reports a command that cannot be run (126, 127).
_REDIRECTED = 'p=$1; shift; exec >"$p.out" 2>"$p.err"; [ ! -e "$p.in" ] || exec <"$p.in"; exec "$@"'


@dataclass(frozen=True, slots=True)
class Finished:
    """How the command ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def run_command(
    gateway: httpx.Client,
    command: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: int,
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Run ``command`` to its end, with ``variables`` on top of the sandbox's environment.

    Input and output are passed on byte for byte.

    POST /commands/run carries text only, so bytes travel through files in the sandbox's /tmp, which stay there.
    Input and each output stream are limited by what the gateway reads and writes at once (32 MiB).

    Raises:
        Unreachable: the sandbox does not answer.
        Refused: the gateway refused.
        Failure: more output than can be fetched.
    """
    prefix = f"/tmp/.thaw-{secrets.token_hex(8)}"
    if stdin:
        # Readable for all: the command may run as another user than the one who writes the file.
        content = base64.b64encode(stdin).decode("ascii")
        body = {"path": f"{prefix}.in", "content": content, "encoding": "base64", "mode": "0644"}
        _call(gateway, "POST", "/files/write", 60, json=body)
    argv = ["/bin/sh", "-c", _REDIRECTED, "sh", prefix, *command]
    result = run_plain(gateway, argv, timeout_s=timeout_s, variables=variables)
    said = result.stderr  # the shell's, or the gateway's remark that time is over
    return Finished(
        exit_code=result.exit_code,
        stdout=_fetch(gateway, f"{prefix}.out") + result.stdout,
        stderr=_fetch(gateway, f"{prefix}.err") + said,
    )


def run_plain(
    gateway: httpx.Client,
    command: Sequence[str],
    *,
    timeout_s: int,
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Run ``command`` in one request, output as text: bytes that are not UTF-8 come as replacement characters."""
    body: dict[str, Any] = {"command": command[0], "args": list(command[1:]), "timeout": timeout_s}
    if variables:
        body["env"] = dict(variables)
    result = _call(gateway, "POST", "/commands/run", timeout_s, json=body)
    return Finished(
        exit_code=int(result["exit_code"]),
        stdout=str(result.get("stdout") or "").encode(),
        stderr=str(result.get("stderr") or "").encode(),
    )


def execute_python(gateway: httpx.Client, code: str, *, timeout_s: int) -> dict[str, Any]:
    """What POST /execute answers for some Python code.

    Raises:
        Unreachable: the sandbox does not answer.
        Refused: the gateway refused.
    """
    return _call(gateway, "POST", "/execute", timeout_s, json={"code": code, "timeout": timeout_s})


def print_finished(finished: Finished) -> None:
    """What it printed, to our own standard output and error."""
    for stream, content in ((sys.stdout, finished.stdout), (sys.stderr, finished.stderr)):
        stream.flush()
        stream.buffer.write(content)
        stream.buffer.flush()


def _fetch(gateway: httpx.Client, path: str) -> bytes:
    try:
        found = _call(gateway, "GET", "/files/read", 60, params={"path": path})
    except Refused as error:
        if error.status == 404:  # the shell could not make it, and said so
            return b""
        if error.status == 413:
            raise Failure(
                "The command printed more than 'thaw run' can fetch; have it write a file."
            ) from error
        raise
    content = str(found["content"])
    return base64.b64decode(content) if found.get("encoding") == "base64" else content.encode()


def _call(gateway: httpx.Client, method: str, path: str, timeout_s: int, **extra: Any) -> dict[str, Any]:
    patience = httpx.Timeout(timeout_s + _ANSWER_GRACE_S, connect=5)
    try:
        return answer(gateway.request(method, path, timeout=patience, **extra))
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise Unreachable(f"The sandbox at {gateway.base_url} does not answer: {reason}.") from error
