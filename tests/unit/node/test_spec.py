"""The OCI bundle: what is inside a sandbox, and what must be equal for a restore."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from thawbox.agent_image import AGENT_ARGV, AGENT_ENV, MOUNT_POINT
from thawbox.node import spec

AGENT = Path("/state/runtime/agent.erofs")
EROFS = spec.Erofs(image=Path("/state/images/a.erofs"), upper=Path("/state/run/upper"), disk_gb=7)
FOLDER = spec.Directory(path=Path("/state/layers/base/fs"))


def written(bundle: Path, root: spec.Erofs | spec.Directory, **different: Any) -> dict[str, Any]:
    spec.write_bundle(
        bundle,
        root=root,
        **{
            "agent_image": AGENT,
            "netns": Path("/var/run/netns/tb-1"),
            "hostname": "sandbox",
            "binds": {"/run/thawbox": Path("/state/runtime/host")},
            **different,
        },
    )
    config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    return config


def mount_at(config: dict[str, Any], destination: str) -> dict[str, Any]:
    (found,) = [mount for mount in config["mounts"] if mount["destination"] == destination]
    return dict(found)


def test_an_erofs_root_is_a_matter_of_annotations(tmp_path: Path) -> None:
    config = written(tmp_path / "bundle", EROFS)
    assert config["annotations"] == {
        "dev.gvisor.spec.rootfs.source": "/state/images/a.erofs",
        "dev.gvisor.spec.rootfs.type": "erofs",
        "dev.gvisor.spec.rootfs.overlay": "dir=/state/run/upper",
        "dev.gvisor.spec.rootfs.options": "size=7g",
    }
    assert config["root"] == {"path": str(tmp_path / "bundle" / "root"), "readonly": False}
    assert (tmp_path / "bundle" / "root").is_dir()


def test_a_folder_as_root(tmp_path: Path) -> None:
    config = written(tmp_path / "bundle", FOLDER)
    assert config["annotations"] == {}
    assert config["root"] == {"path": "/state/layers/base/fs", "readonly": False}


def test_the_first_process_is_the_agent(tmp_path: Path) -> None:
    process = written(tmp_path, EROFS)["process"]
    assert process["args"] == list(AGENT_ARGV)
    assert process["env"] == list(AGENT_ENV)
    assert process["user"] == {"uid": 0, "gid": 0}
    assert process["terminal"] is False
    assert mount_at(written(tmp_path, EROFS), MOUNT_POINT) == {
        "destination": MOUNT_POINT, "type": "erofs", "source": str(AGENT), "options": ["ro"],
    }  # fmt: skip


def test_capabilities_are_few_and_the_same_in_every_set(tmp_path: Path) -> None:
    sets = written(tmp_path, EROFS)["process"]["capabilities"]
    assert sets == {key: list(spec.CAPABILITIES) for key in ("bounding", "effective", "permitted")}
    assert "CAP_SYS_PTRACE" in spec.CAPABILITIES
    assert not {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_MODULE"} & set(spec.CAPABILITIES)


def test_files_of_the_host_are_read_only(tmp_path: Path) -> None:
    config = written(tmp_path, EROFS)
    assert mount_at(config, "/run/thawbox") == {
        "destination": "/run/thawbox",
        "type": "bind",
        "source": "/state/runtime/host",
        "options": ["bind", "ro"],
    }
    assert [mount["destination"] for mount in config["mounts"] if mount["type"] == "bind"] == ["/run/thawbox"]
    assert mount_at(config, "/sys")["options"] == ["ro"]


def test_everything_has_a_namespace_of_its_own(tmp_path: Path) -> None:
    config = written(tmp_path, EROFS)
    assert config["linux"]["namespaces"] == [
        {"type": "pid"},
        {"type": "ipc"},
        {"type": "uts"},
        {"type": "mount"},
        {"type": "network", "path": "/var/run/netns/tb-1"},
    ]


@pytest.mark.parametrize("root", [EROFS, FOLDER], ids=["erofs", "folder"])
def test_what_a_restore_compares_is_the_same_for_every_sandbox(
    tmp_path: Path, root: spec.Erofs | spec.Directory
) -> None:
    """Source: gVisor's ``runsc/specutils/restore.go``. Hostname, network namespace and bundle may differ."""
    one = written(tmp_path / "one", root)
    other = written(tmp_path / "other", root, netns=Path("/var/run/netns/tb-2"), hostname="another")
    assert other["linux"]["namespaces"].pop() == {"type": "network", "path": "/var/run/netns/tb-2"}
    assert one["linux"]["namespaces"].pop() == {"type": "network", "path": "/var/run/netns/tb-1"}
    assert (one.pop("hostname"), other.pop("hostname")) == ("sandbox", "another")
    del one["root"]["path"], other["root"]["path"]
    assert one == other


def test_a_bundle_can_be_written_again(tmp_path: Path) -> None:
    written(tmp_path, EROFS)
    assert written(tmp_path, FOLDER)["root"]["path"] == "/state/layers/base/fs"
