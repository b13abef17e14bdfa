"""Named network namespaces, beside others who make some: each in a mount namespace of its own with an empty /run."""

from __future__ import annotations

import subprocess
import sys

_ALONE = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh"]
_SCRIPT = """
import subprocess
from thawbox.node import netns

ours = netns.FOLDER / "tbtest-0"
netns.create(ours)
subprocess.run(["ip", "netns", "add", "another"], check=True)
netns.remove(ours)
assert netns.names() == ["another"], netns.names()
"""


def test_ours_can_be_removed_after_somebody_used_ip_netns() -> None:
    done = subprocess.run(
        [*_ALONE, sys.executable, "-c", _SCRIPT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
