"""The system packages that Thawbox needs: which are missing, and installing them with apt.

A need counts as met when its program or file is there, however it got there: so the check works on every distribution,
and names what Debian and Ubuntu call the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from thawbox.errors import RuntimeFault
from thawbox.settings import Settings

PACKAGE_LIST = Path(__file__).parent / "debian-packages.txt"
"""Every package, one name a line; ``scripts/setup`` reads it as well, before there is a Python environment."""
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
_KEYRINGS = "/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"
_ALWAYS: dict[str, tuple[str, ...]] = {
    "erofs-utils": ("mkfs.erofs",),
    "iproute2": ("ip",),
    "nftables": ("nft",),
    "python3-venv": ("/usr/bin/python3",),
    "tar": ("tar",),
}
"""Package -> its program, as a name or a path. The agent's image is made from the system's Python."""
_FOR_SOURCE: dict[str, dict[str, tuple[str, ...]]] = {
    "registry": {"skopeo": ("skopeo",), "umoci": ("umoci",)},
    "bootstrap": {"mmdebstrap": ("mmdebstrap",), "zstd": ("zstd",), "debian-archive-keyring": _KEYRINGS},
}
"""The same for each source of base images; of several paths one is enough."""


def needed_packages(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Package -> programs or files, one of which must be there, for the image sources that are configured."""
    needed = dict(_ALWAYS)
    for source in settings.image_sources:
        needed |= _FOR_SOURCE.get(source, {})
    return dict(sorted(needed.items()))


def missing_packages(settings: Settings) -> list[str]:
    """Names of the needed packages of which neither program nor file is on this machine, sorted."""
    return [
        package
        for package, witnesses in needed_packages(settings).items()
        if not any(map(_is_there, witnesses))
    ]


def _is_there(witness: str) -> bool:
    if witness.startswith("/"):
        return Path(witness).exists()
    path = os.environ.get("PATH", os.defpath) + ":" + _SYSTEM_FOLDERS
    return shutil.which(witness, path=path) is not None


def install_packages(packages: list[str]) -> None:
    """Install ``packages`` with apt; its messages go to standard error.

    Raises:
        RuntimeFault: there is no apt, or it failed.
    """
    if shutil.which("apt-get") is None:
        raise RuntimeFault(
            f"there is no apt-get on this machine: install the counterparts of {' '.join(packages)} with its own "
            "package manager"
        )
    # Another apt may be at work, such as the daily upgrade: wait for it up to 300 s. Not through ``processes``, which
    # kills what it started when it is interrupted: apt ends in order by itself, on the terminal's Ctrl-C.
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    for arguments in (["update"], ["-y", "--no-install-recommends", "install", *packages]):
        done = subprocess.run(
            [*apt, *arguments],
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=2,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeFault(
                f"apt-get {arguments[0]} failed with status {done.returncode}: see its message above; mirrors and "
                "proxies are configured in /etc/apt"
            )
