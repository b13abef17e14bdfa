"""The doctor's checks that make something for a moment: they tell what the kernel really allows here."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from thawbox import processes
from thawbox.errors import RuntimeFault
from thawbox.node import cgroups, firewall, installed
from thawbox.settings import Settings
from thawbox.state import Layout

from . import selftest
from .finding import Finding, existing_parent

_NEEDS_ROOT = "not tried: needs root"


async def _gvisor(settings: Settings) -> Finding:
    why = "every sandbox and every build step runs in gVisor"
    try:
        binary = installed.installed_runsc(settings)
    except RuntimeFault:
        return Finding("gvisor", False, "no runsc yet", why, "thaw setup")
    if os.geteuid() != 0:
        return Finding("gvisor", None, f"{binary}; {_NEEDS_ROOT}", why, "sudo thaw doctor")
    version = (await processes.run([binary, "--version"])).stdout.decode("utf-8", "replace").splitlines()
    with tempfile.TemporaryDirectory(prefix="thawbox-doctor-") as records:
        flags = [f"--root={records}", "--platform=systrap", "--network=none", "--ignore-cgroups"]
        try:
            await processes.run([binary, *flags, "--directfs=false", "do", "/bin/true"], timeout_s=30)
        except RuntimeFault as error:
            return Finding("gvisor", False, f"a sandbox does not start: {error.message}", why, _systrap_fix())
    detail = f"{version[0] if version else binary}; systrap starts"
    # Asking makes the agent's image if it is missing, so not before the test has been passed once.
    if not selftest.note_path(Layout(settings.state)).exists() or not selftest.is_proven(settings):
        why = "boot, freeze, thaw and TCP are proven together before the server uses a runsc"
        return Finding("gvisor", None, f"{detail}; self-test not passed yet", why, "thaw setup")
    return Finding("gvisor", True, f"{detail}; self-test passed")


def _systrap_fix() -> str:
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    with suppress(OSError):
        if int(scope.read_text()) >= 2:
            return "sysctl kernel.yama.ptrace_scope=1"
    spaces = Path("/proc/sys/user/max_user_namespaces")
    with suppress(OSError):
        if int(spaces.read_text()) == 0:
            return "sysctl user.max_user_namespaces=65536"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "docker run --privileged --security-opt seccomp=unconfined …"
    return "dmesg | tail"


async def _network(settings: Settings) -> Finding:
    why = "each sandbox has a network namespace of its own, with a link to this machine"
    name = f"tbdoc{os.getpid() % 100_000}"
    if os.geteuid() != 0:
        return Finding("network", None, _NEEDS_ROOT, why, "sudo thaw doctor")
    try:
        await processes.run(["ip", "netns", "add", name])
        await processes.run(
            ["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]
        )
    except RuntimeFault as error:
        return Finding("network", False, error.message, why, "modprobe veth")
    finally:
        await processes.run(["ip", "link", "delete", name], check=False)
        await processes.run(["ip", "netns", "delete", name], check=False)
    return Finding("network", True, "namespaces and links can be made")


async def _nftables(settings: Settings) -> Finding:
    why = "the firewall keeps guests from each other and from private addresses, and leads them out"
    table = f"thawbox_doctor_{os.getpid()}"
    if os.geteuid() != 0:
        return Finding("nftables", None, _NEEDS_ROOT, why, "sudo thaw doctor")
    try:  # the server's own rules, for devices and addresses that do not exist
        await firewall.install(table, "tbdoc", "192.0.2.0/24", ["192.0.2.1"])
    except RuntimeFault as error:
        fix = "modprobe -a nf_tables nft_fib_inet nft_nat nft_masq nft_ct"
        return Finding("nftables", False, error.message, why, fix)
    finally:
        with suppress(RuntimeFault):
            await firewall.remove(table)
    return Finding("nftables", True, "the rules can be set")


async def _forwarding(settings: Settings) -> Finding:
    why = "without it guests and build steps reach no network"
    path = Path("/proc/sys/net/ipv4/ip_forward")
    on = path.read_text().strip() == "1"
    if not on and not os.access(path, os.W_OK):
        return Finding("forwarding", False, "ip_forward is off", why, "sysctl net.ipv4.ip_forward=1")
    dropped = False
    if os.geteuid() == 0:
        with suppress(RuntimeFault):
            chain = await processes.run(["nft", "list", "chain", "ip", "filter", "FORWARD"], check=False)
            dropped = b"policy drop" in chain.stdout
    if dropped:
        accept = "iptables -I DOCKER-USER -{side} tb+ -j ACCEPT"
        fix = "; ".join(accept.format(side=side) for side in "io")
        return Finding("forwarding", None, "another program (Docker?) drops forwarded packets", why, fix)
    return Finding("forwarding", True, "on" if on else "off; the server switches it on when it starts")


async def _cgroups(settings: Settings) -> Finding:
    why = "limits of CPU, memory and processes; without them one sandbox can take the whole machine"
    version = 2 if cgroups.is_v2() else 1
    if os.geteuid() != 0:
        return Finding("cgroups", None, f"version {version}; {_NEEDS_ROOT}", why, "sudo thaw doctor")
    group = cgroups.of("", f"thawbox-doctor-{os.getpid()}")
    missing = []
    if version == 2:
        offered = (cgroups.ROOT / "cgroup.controllers").read_text().split()
        missing = [name for name in ("memory", "cpu", "pids") if name not in offered]
    for folder in group.folders:
        try:
            folder.mkdir()
        except OSError as error:
            missing.append(f"{folder.parent.name} ({error.strerror})")
        finally:
            with suppress(OSError):
                folder.rmdir()
    if missing:
        fix = "mount -o remount,rw /sys/fs/cgroup; add cgroup_enable=memory to the kernel's command line"
        return Finding("cgroups", False, f"version {version}, cannot use: {', '.join(missing)}", why, fix)
    return Finding("cgroups", True, f"version {version}, groups can be made")


async def _layers(settings: Settings) -> Finding:
    why = "layers keep deleted files as device nodes and replaced folders as attributes, and are stacked"
    if os.geteuid() != 0:
        return Finding("layers", None, _NEEDS_ROOT, why, "sudo thaw doctor")
    fix = "THAWBOX_STATE=/on/an/ext4/or/xfs/disk"
    place = existing_parent(settings.state)
    with tempfile.TemporaryDirectory(prefix=".thawbox-doctor-", dir=place) as made:
        below, above, merged = (Path(made) / name for name in ("below", "above", "merged"))
        for folder in (below, above, merged, below / "replaced", above / "replaced"):
            folder.mkdir()
        for name in ("deleted", "kept", "replaced/old"):
            (below / name).touch()
        try:
            os.mknod(above / "deleted", 0o20600, os.makedev(0, 0))
            os.setxattr(above / "replaced", "trusted.overlay.opaque", b"y")
        except OSError as error:
            return Finding("layers", False, f"{place} cannot hold them: {error.strerror}", why, fix)
        options = f"ro,lowerdir={above}:{below}"
        try:
            await processes.run(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)])
        except RuntimeFault as error:
            return Finding(
                "layers", False, f"overlayfs cannot be mounted: {error.message}", why, "modprobe overlay"
            )
        try:
            seen = sorted(str(path.relative_to(merged)) for path in merged.rglob("*"))
        finally:
            await processes.run(["umount", str(merged)], check=False)
    if seen != ["kept", "replaced"]:
        return Finding("layers", False, f"stacked layers show {seen} instead of kept and replaced", why, fix)
    return Finding("layers", True, f"overlayfs works on {place}")


async def _erofs(settings: Settings) -> Finding:
    why = "a template's root is one EROFS image"
    with tempfile.TemporaryDirectory(prefix="thawbox-doctor-") as made:
        source = Path(made) / "tree"
        source.mkdir()
        (source / "file").write_text("content")
        try:
            await processes.run(
                ["mkfs.erofs", "-x-1", "-E", "noinline_data", str(Path(made) / "image"), str(source)]
            )
        except RuntimeFault as error:
            return Finding("erofs", False, error.message, why, "apt-get install -y erofs-utils")
    return Finding("erofs", True, "images can be made")


CHECKS: tuple[Callable[[Settings], Awaitable[Finding]], ...] = (
    _gvisor,
    _network,
    _nftables,
    _forwarding,
    _cgroups,
    _layers,
    _erofs,
)
