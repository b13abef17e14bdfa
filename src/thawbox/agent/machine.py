"""``init``, ``usage``, ``probe``, ``quiesce`` and ``renew``: what concerns the whole guest. Runs inside, standard
library only."""

import _socket
import gc
import os
import sys

from . import children, files, spawn
from .environment import DEFAULT_PATH, Environment, variables
from .wire import Refused, integer, text

Request = dict[str, object]
Object = dict[str, object]

PROBE_SECONDS = 2.0


def init(request: Request, environment: Environment, root: str) -> Object:
    """Give this sandbox its identity: environment of later commands, whole files below /etc, entropy.

    ``template_env`` is the layer below ``env``. May be repeated; what is absent stays as it is. ``root`` is put
    before every path.

    Raises:
        Refused: a field of the wrong type.
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
    """Clones of one snapshot share their user-space random state; the kernel's is fresh, but more does not
    hurt."""
    try:
        seed = bytes.fromhex(entropy) if isinstance(entropy, str) else b""
    except ValueError:
        seed = b""
    if not seed:
        raise Refused("INVALID", "entropy must be hexadecimal digits")
    try:
        with open("/dev/urandom", "wb", buffering=0) as device:
            device.write(seed)
    except OSError:
        pass  # a root without /dev/urandom has nothing to mix into
    if (random := sys.modules.get("random")) is not None:
        random.seed(seed + os.urandom(32))


def usage() -> Object:
    """Counters: memory in bytes, load, number of processes, disk of / in bytes."""
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
    """What system this is, and which of the programs ``names`` it has in its PATH."""
    names = request.get("names") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Refused("INVALID", "names must be a list of strings")
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
        Refused: an unknown kind or an ill-formed target.
    """
    kind = request.get("kind")
    if kind == "port":
        port = integer(request, "target", None)
        if not port or port > 65535:
            raise Refused("INVALID", "target must be a port between 1 and 65535")
        return {"ok": _open(_socket.AF_INET, "127.0.0.1", port) or _open(_socket.AF_INET6, "::1", port)}
    if kind == "file":
        return {"ok": os.path.exists(text(request, "target"))}
    if kind == "process":
        return {"ok": _runs(text(request, "target"))}
    raise Refused("INVALID", f"kind must be port, file or process, not {kind!r}")


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
    """Begin afresh as the same process, with memory in which nothing is of anything that we were ever told.

    What we started goes on. Nobody is known to us until the host tells a new secret.
    """
    with open("/proc/self/cmdline", "rb") as file:
        words = file.read().split(b"\0")[:-1]
    os.execv(words[0], words)  # noqa: S606


def quiesce() -> Object:
    """Make ready for the freeze: files on disk, no garbage, and no later collection that touches every
    page."""
    os.sync()
    gc.collect()
    gc.freeze()
    return {}
