"""The OCI bundle of a sandbox or a build step: a folder with ``config.json``.

runsc restores a snapshot only into a container whose mounts, arguments, annotations, rlimits and capabilities equal
those of the frozen one. Hostname, network namespace and bundle path may differ. So nothing else in here may depend on
the sandbox. Source of the fields: the OCI runtime specification; of the rest: gVisor,
``runsc/specutils/restore.go`` and ``runsc/boot/mount_hints.go``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thawbox.agent_image import AGENT_ARGV, AGENT_ENV, MOUNT_POINT

CAPABILITIES = (
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
)
"""Docker's default set without CAP_NET_RAW, and with CAP_SYS_PTRACE for debuggers, which see only the sandbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A root that is a folder of the host. Nothing writes to it: changes go to the writable layer."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Erofs:
    """A root that is an EROFS image, which all sandboxes of the template share."""

    image: Path
    upper: Path
    """folder for writable layers; its path is in the snapshot, so it is the same for all sandboxes"""
    disk_gb: int
    """limit of the writable layer, in GiB"""


def write_bundle(
    bundle: Path,
    *,
    root: Directory | Erofs,
    agent_image: Path,
    netns: Path,
    hostname: str,
    binds: dict[str, Path] | None = None,
) -> None:
    """Create the folder ``bundle`` with ``config.json`` in it.

    ``binds`` maps paths inside to files or folders of the host, which are mounted read-only.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "root").mkdir(exist_ok=True)
    config = json.dumps(_spec(bundle, root, agent_image, netns, hostname, binds or {}))
    (bundle / "config.json").write_text(config)


def _spec(
    bundle: Path,
    root: Directory | Erofs,
    agent_image: Path,
    netns: Path,
    hostname: str,
    binds: dict[str, Path],
) -> dict[str, Any]:
    capabilities = list(CAPABILITIES)
    annotations: dict[str, str] = {}
    if isinstance(root, Erofs):
        root_path = bundle / "root"
        annotations = {
            "dev.gvisor.spec.rootfs.source": str(root.image),
            "dev.gvisor.spec.rootfs.type": "erofs",
            "dev.gvisor.spec.rootfs.overlay": f"dir={root.upper}",
            "dev.gvisor.spec.rootfs.options": f"size={root.disk_gb}g",
        }
    else:
        root_path = root.path
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(AGENT_ARGV),
            "env": list(AGENT_ENV),
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities,
                "effective": capabilities,
                "permitted": capabilities,
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 65_536},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
            "noNewPrivileges": False,
        },
        "root": {"path": str(root_path), "readonly": False},
        "hostname": hostname,
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            {
                "destination": MOUNT_POINT,
                "type": "erofs",
                "source": str(agent_image),
                "options": ["ro"],
            },
            *(
                {
                    "destination": inside,
                    "type": "bind",
                    "source": str(outside),
                    "options": ["bind", "ro"],
                }
                for inside, outside in binds.items()
            ),
        ],
        "annotations": annotations,
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "mount"},
                {"type": "network", "path": str(netns)},
            ],
        },
    }
