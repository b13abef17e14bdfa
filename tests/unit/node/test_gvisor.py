"""The command lines of runsc, and what becomes of its failures."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.node import FakeStart
from thawbox.errors import MachineDiskFull, RuntimeFault
from thawbox.node import gvisor
from thawbox.node.gvisor import Runsc

RUNSC = Runsc(binary=Path("/opt/runsc"), root=Path("/s/run/runsc"), upper=Path("/s/run/upper"), digest="d")
FLAGS = [
    "--root=/s/run/runsc", "--platform=systrap", "--network=sandbox", "--ignore-cgroups", "--directfs=false",
    "--allow-suid", "--host-uds=none",
]  # fmt: skip
PLAIN = ["/opt/runsc", *FLAGS, "--overlay2=root:dir=/s/run/upper"]
SIZED = ["/opt/runsc", *FLAGS, "--overlay2=root:dir=/s/run/upper,size=5g"]


async def create(bundle: Path, *groups: Path) -> None:
    await RUNSC.create("sb-1", bundle, secret="geheim", cgroup_files=groups, upper_gb=5)


async def test_create(start: FakeStart, commands: list[list[str]], tmp_path: Path) -> None:
    await create(tmp_path, Path("/cg/memory/x/cgroup.procs"), Path("/cg/cpu/x/cgroup.procs"))
    shell, words = start.argv[:3], start.argv[3:]
    assert shell[:2] == ["/bin/sh", "-c"]
    assert words == ["sh", *SIZED, "create", f"--bundle={tmp_path}", f"--pid-file={tmp_path}/pid", "sb-1"]
    assert commands == []  # nothing to clean up


async def test_the_secret_is_on_standard_input_alone(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    await create(tmp_path)
    assert start.input == b"geheim\n"
    assert "geheim" not in " ".join([*start.argv, *start.env.values()])


async def test_the_servers_environment_is_not_passed_on(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    await create(tmp_path, Path("/cg/a/cgroup.procs"), Path("/cg/b/cgroup.procs"))
    assert start.env.keys() == {"PATH", "THAWBOX_CGROUPS"}
    assert start.env["THAWBOX_CGROUPS"] == "/cg/a/cgroup.procs /cg/b/cgroup.procs"


async def test_it_enters_the_groups_first_and_dies_with_the_server(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    await create(tmp_path)
    enter, forget, become = start.argv[2].strip().splitlines()
    assert enter == 'for file in $THAWBOX_CGROUPS; do echo $$ > "$file" || exit 1; done'
    assert forget == "unset THAWBOX_CGROUPS"
    assert become == 'exec setpriv --pdeathsig=KILL "$@"'


async def test_a_failed_create_says_why_and_leaves_nothing(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    start.outcome, start.prints = 128, b"creating container: no such thing\n"
    with pytest.raises(
        RuntimeFault, match=r"^runsc create ended with status 128: creating container: no such"
    ):
        await create(tmp_path)
    assert commands == [[*PLAIN, "delete", "--force", "sb-1"]]


async def test_a_full_disk_is_told_apart(start: FakeStart, commands: list[list[str]], tmp_path: Path) -> None:
    start.outcome, start.prints = 1, b"write /s/run: no space left on device"
    with pytest.raises(MachineDiskFull):
        await create(tmp_path)


async def test_a_create_that_hangs(start: FakeStart, commands: list[list[str]], tmp_path: Path) -> None:
    start.outcome = TimeoutError
    with pytest.raises(RuntimeFault, match="runsc create took longer than 60 s"):
        await create(tmp_path)
    assert commands == [[*PLAIN, "delete", "--force", "sb-1"]]


async def test_a_cancelled_create_leaves_nothing(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    start.outcome = asyncio.CancelledError
    with pytest.raises(asyncio.CancelledError):
        await create(tmp_path)
    assert commands == [[*PLAIN, "delete", "--force", "sb-1"]]


async def test_no_descriptor_is_left_open(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    before = os.listdir("/proc/self/fd")
    await create(tmp_path)
    start.outcome = 1
    with pytest.raises(RuntimeFault):
        await create(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_output_is_appended_to_the_console(
    start: FakeStart, commands: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "console").write_bytes(b"before\n")
    start.prints = b"after\n"
    await create(tmp_path)
    assert (tmp_path / "console").read_bytes() == b"before\nafter\n"


async def test_the_other_commands(commands: list[list[str]]) -> None:
    await RUNSC.start("sb-1")
    await RUNSC.restore("sb-1", Path("/b"), Path("/snap"), upper_gb=5)
    await RUNSC.pause("sb-1")
    await RUNSC.resume("sb-1")
    await RUNSC.tar_upper("sb-1", Path("/tmp/u.tar"))
    await RUNSC.delete("sb-1")
    assert commands == [
        [*PLAIN, "start", "sb-1"],
        [*SIZED, "restore", "--image-path=/snap", "--bundle=/b", "--detach", "--background", "sb-1"],
        [*PLAIN, "pause", "sb-1"],
        [*PLAIN, "resume", "sb-1"],
        [*PLAIN, "tar", "rootfs-upper", "--file=/tmp/u.tar", "sb-1"],
        [*PLAIN, "delete", "--force", "sb-1"],
    ]


@pytest.mark.parametrize(("leave_running", "flags"), [(True, ["--leave-running"]), (False, [])])
async def test_checkpoint(commands: list[list[str]], leave_running: bool, flags: list[str]) -> None:
    await RUNSC.checkpoint("sb-1", Path("/snap"), leave_running=leave_running)
    options = ["--image-path=/snap", "--compression=none", "--exclude-committed-zero-pages"]
    assert commands == [[*PLAIN, "checkpoint", *options, *flags, "sb-1"]]


async def test_deleting_what_is_not_there_is_no_error(
    commands: list[list[str]], outputs: dict[str, bytes]
) -> None:
    outputs["delete"] = b"!"
    await RUNSC.delete("sb-1")
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (
            b'[{"id": "a", "status": "running", "pid": 1}, {"id": "b", "status": "stopped"}]',
            {"a": "running", "b": "stopped"},
        ),
        (b"null", {}),
        (b"", {}),
    ],
)
async def test_statuses(
    commands: list[list[str]], outputs: dict[str, bytes], printed: bytes, found: dict[str, str]
) -> None:
    outputs["list"] = printed
    assert await RUNSC.statuses() == found
    assert commands == [[*PLAIN, "list", "--format=json"]]


def test_the_process_id_of_a_bundle(tmp_path: Path) -> None:
    assert gvisor.pid_of(tmp_path) is None
    (tmp_path / "pid").write_text("")
    assert gvisor.pid_of(tmp_path) is None
    (tmp_path / "pid").write_text("4711\n")
    assert gvisor.pid_of(tmp_path) == 4711
