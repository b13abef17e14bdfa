"""``init``, ``usage``, ``describe``, ``probe``, ``quiesce``, ``renew``: the whole sandbox. Part of process 1.

Standard library only.
"""

import _socket
import gc
import os
import sys

from . import children, files, spawn
from .environment import DEFAULT_PATH, Environment, variables
from .wire import OperationError, integer, text

Request = dict[str, object]
Object = dict[str, object]

PROBE_SECONDS = 2.0


def init(request: Request, environment: Environment, root: str) -> Object:
    """Give this sandbox its identity: environment of later commands, whole files below /etc, entropy.

    ``template_env`` is the layer below ``env``. May be repeated; what is absent stays as it is. ``root`` is put
    before every path.

    Raises:
        OperationError: a field of the wrong type.
    """
    with environment.lock:
        if request.get("template_env") is not None:
            environment.template = dict(variables(request["template_env"]))
        if request.get("env") is not None:
            environment.own = dict(variables(request["env"]))
        if request.get("env_add") is not None:
            environment.own = {**environment.own, **variables(request["env_add"])}
    if entropy := request.get("entropy"):
        _mix_in(entropy)
    if request.get("hosts") is not None:
        files.replace_text(root + "/etc/hosts", text(request, "hosts"))
    if request.get("hostname_file") is not None:
        files.replace_text(root + "/etc/hostname", text(request, "hostname_file"))
    if request.get("resolv_conf") is not None:
        files.replace_text(root + "/etc/resolv.conf", text(request, "resolv_conf"))
    files.make_folders(root + "/workspace")
    return {}


def _mix_in(entropy: object) -> None:
    """Add host entropy to the kernel's generator, and seed ``random``: clones of one snapshot share its state.

    The kernel's generator is fresh in every clone; this is an additional source.
    """
    try:
        seed = bytes.fromhex(entropy) if isinstance(entropy, str) else b""
    except ValueError:
        seed = b""
    if not seed:
        raise OperationError("INVALID", "entropy must be hexadecimal digits")
    try:
        with open("/dev/urandom", "wb", buffering=0) as device:
            device.write(seed)
    except OSError:
        pass  # a root without /dev/urandom has nothing to mix into
    if (random := sys.modules.get("random")) is not None:
        random.seed(seed + os.urandom(32))


def usage() -> Object:
    """Memory in bytes, load, number of CPUs and processes, disk of / in bytes."""
    memory: dict[str, int] = {}
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemFree", "MemAvailable"):
                memory[name] = int(rest.split()[0]) * 1024
    disk = os.statvfs("/")
    total = memory.get("MemTotal", 0)
    return {
        "memory_total": total,
        "memory_used": total - memory.get("MemAvailable", memory.get("MemFree", total)),
        "load": list(os.getloadavg()),
        "cpus": os.cpu_count() or 1,
        "processes": len(children.pids()),
        "disk_total": disk.f_blocks * disk.f_frsize,
        "disk_used": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
    }


def describe(request: Request, shared: dict[str, str], root: str) -> Object:
    """What system this is, and which of the programs ``names`` are in its PATH.

    Raises:
        OperationError: ``names`` is not a list of strings.
    """
    names = request.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise OperationError("INVALID", "names must be a list of strings")
    system = os.uname()
    path = os.fsencode(shared.get("PATH", DEFAULT_PATH))
    return {
        "os_release": _small_file(root + "/etc/os-release"),
        "timezone": _small_file(root + "/etc/timezone").strip() or "UTC",
        "kernel": system.release,
        "machine": system.machine,
        "hostname": system.nodename,
        "cpu_model": _cpu_model(),
        "programs": [name for name in names if spawn.find(os.fsencode(name), path) is not None],
    }


def _small_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(8192)
    except OSError:
        return ""


def _cpu_model() -> str:
    for line in _small_file("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return ""


def probe(request: Request) -> Object:
    """Whether a port is open, a file exists, or a process runs.

    Raises:
        OperationError: an unknown kind or an ill-formed target.
    """
    kind = request.get("kind")
    if kind == "port":
        port = integer(request, "target", None)
        if not port or port > 65535:
            raise OperationError("INVALID", "target must be a port between 1 and 65535")
        return {"ok": _open(_socket.AF_INET, "127.0.0.1", port) or _open(_socket.AF_INET6, "::1", port)}
    if kind == "file":
        return {"ok": os.path.exists(text(request, "target"))}
    if kind == "process":
        return {"ok": _runs(text(request, "target"))}
    raise OperationError("INVALID", f"kind must be port, file or process, not {kind!r}")


def _open(family: int, address: str, port: int) -> bool:
    try:
        sock = _socket.socket(family, _socket.SOCK_STREAM)
    except OSError:
        return False
    try:
        sock.settimeout(PROBE_SECONDS)
        sock.connect((address, port))
    except OSError:
        return False
    else:
        return True
    finally:
        sock.close()


def _runs(name: str) -> bool:
    for pid in children.pids():
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                state = file.read()
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                program = file.read().split("\0", 1)[0]
        except OSError:
            continue
        command, _, rest = state.partition("(")[2].rpartition(")")
        if rest.split()[:1] == ["Z"]:
            continue
        if name in (command, os.path.basename(program)):
            return True
    return False


def renew() -> None:
    """Execute the agent anew as the same process: nothing that it was sent stays in its memory.

    Its children go on. It accepts no client until the host writes a new secret.
    """
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().split(b"\0")[:-1]
    os.execv(words[0], words)  # noqa: S606


def quiesce() -> Object:
    """Prepare for the freeze: write files to disk, collect garbage, and exempt what is left from later collections.

    A collection that touches every page would copy the snapshot's memory.
    """
    os.sync()
    gc.collect()
    gc.freeze()
    return {}
