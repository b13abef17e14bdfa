"""Ends the programs inside a container."""

from __future__ import annotations

from thawbox import guest
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import GuestFault

GRACE_S = 5
"""Seconds from SIGTERM to SIGKILL."""

# kill(-1) spares the caller and process 1, which is the agent. It reaches all others at once, so that no program can
# escape by forking. Source: kill(2).
SCRIPT = f"""
import os, time
def others():
    return [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid()) and alive(p)]
def alive(pid):
    try:
        with open(f"/proc/{{pid}}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
def end(signal, seconds):
    deadline = time.monotonic() + seconds
    sent = False
    while others() and time.monotonic() < deadline:
        if signal == 9 or not sent:
            sent = True
            try:
                os.kill(-1, signal)
            except ProcessLookupError:
                return
        time.sleep(0.01)
end(15, {GRACE_S})
end(9, {GRACE_S})
os.sync()
raise SystemExit(bool(others()))
"""


async def end_all(endpoint: guest.Endpoint) -> None:
    """Send SIGTERM to every process inside but the agent, and SIGKILL to those that are left after ``GRACE_S`` seconds.

    Raises:
        GuestFault: a process is left, or the agent does not answer.
        GuestError: the agent reports an error.
    """
    done = await guest.run(endpoint, argv=[*INTERPRETER_ARGV, "-c", SCRIPT], timeout=4 * GRACE_S)
    if done.exit_code != 0:
        output = done.stderr[-500:].decode("utf-8", "replace")
        raise GuestFault(f"the programs inside do not end (status {done.exit_code}): {output}")
