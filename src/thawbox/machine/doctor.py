"""Find out what this machine lacks: each check tries a need of the node instead of looking up a version.

The checks change nothing: what they make (namespace, firewall table, mount, cgroup, sandbox) they remove.
``doctor_kernel`` holds those that make something; here are those that only look.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import platform
import shutil
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from thawbox.node import firewall
from thawbox.settings import Settings
from thawbox.state import Layout

from . import doctor_kernel, packages
from .finding import Finding, existing_parent

_OLDEST_KERNEL = (5, 6)  # systrap needs it
_RELEASED = 1_790_000_000  # 2026-09-21; no clock that is right shows less
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_DISK_NEEDED, _DISK_WISHED = 5, 20  # GB
_MEMORY_WISHED = 2  # GB


Check = Callable[[Settings], Awaitable[Finding]]


async def check(settings: Settings) -> list[Finding]:
    """Try everything; a check that itself breaks is a finding, never an exception."""
    checks: list[Check] = [_root, _machine, _programs, *doctor_kernel.CHECKS, _disk, _memory, _clock, _dns]
    checks += [_shmem, _rcu, _ports]
    return [await _guarded(one, settings) for one in checks]


async def _guarded(one: Check, settings: Settings) -> Finding:
    name = one.__name__.strip("_").replace("_", " ")
    try:
        return await asyncio.wait_for(one(settings), 60)
    except TimeoutError:
        return Finding(
            name,
            False,
            "the check did not end within 60 s",
            "something on this machine hangs",
            "dmesg | tail",
        )
    except Exception as error:  # the other checks still run
        return Finding(
            name, False, f"the check broke: {error!r}", "it could not be found out whether this works"
        )


async def _root(settings: Settings) -> Finding:
    if os.geteuid() == 0:
        return Finding("root", True, "running as root")
    return Finding(
        "root",
        False,
        f"running as user {os.geteuid()}",
        "namespaces, mounts and cgroups of sandboxes need root; the checks below do so too",
        "sudo thaw doctor",
    )


async def _machine(settings: Settings) -> Finding:
    release, machine = platform.release(), platform.machine()
    numbers = release.split("-")[0].split(".")
    version = tuple(int(word) for word in numbers[:2] if word.isdigit())
    detail = f"Linux {release} on {machine}"
    if machine != "x86_64":
        return Finding("kernel", False, detail, "gVisor restores memory snapshots reliably on x86_64 only")
    if version < _OLDEST_KERNEL:
        return Finding(
            "kernel",
            False,
            detail,
            "gVisor's systrap platform needs Linux 5.6",
            "apt-get install linux-image-amd64",
        )
    return Finding("kernel", True, detail)


async def _programs(settings: Settings) -> Finding:
    needed = packages.needed_packages(settings)
    missing = packages.missing_packages(settings)
    if not missing:
        return Finding("programs", True, ", ".join(Path(names[0]).name for names in needed.values()))
    return Finding(
        "programs",
        False,
        f"not found: {', '.join(Path(needed[package][0]).name for package in missing)}",
        "images are made and guests are connected with them",
        f"apt-get install -y {' '.join(missing)}",
    )


async def _disk(settings: Settings) -> Finding:
    folder = existing_parent(settings.state)
    gigabytes = shutil.disk_usage(folder).free / 1e9
    detail = f"{gigabytes:.0f} GB free for {settings.state}"
    why = "a base image takes about 1 GB as layer and image, builds and sandboxes need more"
    fix = "thaw gc, or THAWBOX_STATE=/on/a/larger/disk"
    if gigabytes < _DISK_NEEDED:
        return Finding("disk", False, detail, why, fix)
    if gigabytes < _DISK_WISHED:
        return Finding("disk", None, detail, why, fix)
    return Finding("disk", True, detail)


async def _memory(settings: Settings) -> Finding:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(fields["MemAvailable"].split()[0]) / 1e6
    detail = f"{available:.1f} GB available"
    why = "a build step may use the memory that its template asks for (2 GB unless told otherwise)"
    return Finding("memory", None if available < _MEMORY_WISHED else True, detail, why)


async def _clock(settings: Settings) -> Finding:
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    why = "guests take their time from here; certificates and tokens are checked against it"
    if time.time() < _RELEASED:
        return Finding("clock", False, f"{now} is in the past", why, "timedatectl set-ntp true")
    timex = ctypes.create_string_buffer(512)  # struct timex with modes = 0: only read
    if ctypes.CDLL(None).adjtimex(timex) == _TIME_ERROR:
        return Finding("clock", None, f"{now}, not synchronised", why, "apt-get install -y systemd-timesyncd")
    return Finding("clock", True, f"{now}, synchronised")


async def _dns(settings: Settings) -> Finding:
    why = "guests ask the host's name servers; builds that install something need names"
    fix = "THAWBOX_GUEST_DNS='[\"ADDRESS\"]' thaw serve"
    proxied = bool(settings.guest_proxy or os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY"))
    bad = None if proxied else False
    servers = firewall.name_servers(settings.guest_dns)
    if not servers:
        return Finding("dns", bad, "no IPv4 name server off loopback in /etc/resolv.conf", why, fix)
    if await asyncio.to_thread(name_server_answers, servers[0]):
        return Finding("dns", True, f"{servers[0]} answers")
    return Finding("dns", bad, f"{servers[0]} does not answer", why, fix)


def name_server_answers(address: str) -> bool:
    """Whether a name server answers at ``address`` within a few seconds."""
    # Asks for the root's name servers: any answer, a refusal too, shows that a name server is there.
    question = b"\x54\x42\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"\x00\x00\x02\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        for _attempt in range(2):
            try:
                client.connect((address, 53))
                client.send(question)
                if client.recv(512)[:2] == question[:2]:
                    return True
            except OSError:
                continue
    return False


async def _shmem(settings: Settings) -> Finding:
    path = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    if not path.exists():
        return Finding("shmem_enabled", True, "not offered by this kernel")
    chosen = path.read_text().partition("[")[2].partition("]")[0]
    return Finding(
        "shmem_enabled",
        True if chosen in ("advise", "within_size", "always", "force") else None,
        chosen,
        "guest memory is shared memory; with huge pages builds are 20-25 % faster",
        f"echo advise > {path}",
    )


async def _rcu(settings: Settings) -> Finding:
    path = Path("/sys/kernel/rcu_expedited")
    if not path.exists():
        return Finding("rcu_expedited", True, "not offered by this kernel")
    on = path.read_text().strip() != "0"
    return Finding(
        "rcu_expedited",
        True if on else None,
        "on" if on else "off",
        "creating a sandbox waits for the kernel's grace periods: 52 ms instead of 70 with it on",
        f"echo 1 > {path}",
    )


async def _ports(settings: Settings) -> Finding:
    wanted = [port for port in (settings.port, settings.gateway_port) if port]
    taken = [port for port in wanted if port_is_taken(settings.host, port)]
    if not taken:
        return Finding("ports", True, f"{', '.join(map(str, wanted))} on {settings.host} are free")
    if server_runs(settings.state):
        return Finding("ports", True, f"{', '.join(map(str, taken))} in use by the server that runs")
    return Finding(
        "ports",
        None,
        f"{', '.join(map(str, taken))} on {settings.host} taken by another program",
        "the server cannot listen there",
        f"ss -ltnp 'sport = :{taken[0]}'; thaw serve --port 7171 --gateway-port 7878",
    )


def port_is_taken(host: str, port: int) -> bool:
    """Whether binding ``port`` on ``host`` fails because another program listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise
    return False


def server_runs(state: Path) -> bool:
    """Whether a server holds the lock of this state folder."""
    with suppress(OSError), Layout(state).lock.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
