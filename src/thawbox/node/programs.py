"""Ending what runs inside a container."""

from __future__ import annotations

from thawbox import guest
from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import GuestFault

GRACE_S = 5
"""From the polite signal to the one that cannot be refused."""

# kill(-1) spares the caller and process 1, which is the agent. Nobody can fork away from SIGKILL to all.
_SCRIPT = f"""
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
    told = False
    while others() and time.monotonic() < deadline:
        if signal == 9 or not told:
            told = True
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
    """SIGTERM to every process inside but the agent, SIGKILL to those that are left after ``GRACE_S`` seconds.

    Raises:
        GuestFault, GuestError: the agent does not do it.
    """
    done = await guest.run(endpoint, argv=[*INTERPRETER_ARGV, "-c", _SCRIPT], timeout=4 * GRACE_S)
    if done.exit_code != 0:
        said = done.stderr[-500:].decode("utf-8", "replace")
        raise GuestFault(f"the programs inside do not end (status {done.exit_code}): {said}")
