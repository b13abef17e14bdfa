"""The system inside a sandbox, and what runs in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from thawbox.agent_image import INTERPRETER_ARGV
from thawbox.errors import GuestFault

from .channel import QUICK_S, Endpoint, call, connect, deadline
from .fields import Object, field, text_field

PROCESSES_MAX = 5000


@dataclass(frozen=True)
class System:
    """From /etc/os-release (its whole text), /etc/timezone, uname and /proc/cpuinfo."""

    os_release: str
    timezone: str
    kernel: str
    machine: str
    hostname: str
    cpu_model: str
    programs: tuple[str, ...]
    """Those of the requested programs that are in its PATH."""


@dataclass(frozen=True)
class ProcessInfo:
    """A process: ``state`` is one letter as in /proc, ``cpu`` and ``age`` are seconds, ``memory`` resident bytes."""

    pid: int
    ppid: int
    name: str
    state: str
    user: str
    cpu: float
    age: float
    memory: int
    command: str


async def describe(endpoint: Endpoint, names: Sequence[str] = (), *, timeout: float = QUICK_S) -> System:
    """The system, and which of the programs ``names`` are in its PATH."""
    answer = await call(endpoint, "describe", {"names": list(names)}, timeout)
    programs = answer.get("programs")
    if not isinstance(programs, list):
        raise GuestFault("the agent's answer has no valid 'programs'")
    return System(
        os_release=text_field(answer, "os_release"),
        timezone=text_field(answer, "timezone"),
        kernel=text_field(answer, "kernel"),
        machine=text_field(answer, "machine"),
        hostname=text_field(answer, "hostname"),
        cpu_model=text_field(answer, "cpu_model"),
        programs=tuple(name for name in names if name in programs),
    )


async def list_processes(endpoint: Endpoint, *, timeout: float = QUICK_S) -> list[ProcessInfo]:
    """Every process, sorted by pid."""
    found: list[ProcessInfo] = []
    async with deadline(timeout), connect(endpoint, "processes", {}) as channel:
        async for payload in channel.stream():
            page = channel.json(payload)
            if not isinstance(page, list) or not all(isinstance(entry, dict) for entry in page):
                raise GuestFault("the agent sent a list of processes that is not valid")
            found += [_process(entry) for entry in page]
            if len(found) > PROCESSES_MAX:
                raise GuestFault(f"the agent reports more than {PROCESSES_MAX} processes")
    return found


def _process(value: Object) -> ProcessInfo:
    return ProcessInfo(
        pid=field(value, "pid", int),
        ppid=field(value, "ppid", int),
        name=text_field(value, "name"),
        state=text_field(value, "state"),
        user=text_field(value, "user"),
        cpu=field(value, "cpu", float),
        age=field(value, "age", float),
        memory=field(value, "memory", int),
        command=text_field(value, "command"),
    )


async def probe(endpoint: Endpoint, kind: str, target: int | str, *, timeout: float = QUICK_S) -> bool:
    """Whether a ``port`` accepts connections, a ``file`` exists, or a ``process`` of that name runs."""
    return field(await call(endpoint, "probe", {"kind": kind, "target": target}, timeout), "ok", bool)


def url_probe_argv(url: str) -> tuple[str, ...]:
    """A command that exits with 0 if ``url`` answers 200 within 5 seconds, seen from inside; for ``run``.

    It uses the agent's own interpreter, so the image needs no tool for it.
    """
    script = (
        "import sys,urllib.request as r\n"
        "try:\n sys.exit(r.urlopen(sys.argv[1],timeout=5).status!=200)\n"
        "except Exception as e:\n print(e,file=sys.stderr);sys.exit(1)"
    )
    return (*INTERPRETER_ARGV, "-c", script, url)


async def usage(endpoint: Endpoint, *, timeout: float = QUICK_S) -> Object:
    """``memory_total``, ``memory_used``, ``disk_total``, ``disk_used`` (bytes), ``load`` (1, 5, 15 minutes),
    ``cpus``, ``processes``."""
    answer = await call(endpoint, "usage", {}, timeout)
    for name in ("memory_total", "memory_used", "disk_total", "disk_used", "cpus", "processes"):
        field(answer, name, int)
    load = answer.get("load")
    if (
        not isinstance(load, list)
        or len(load) != 3
        or not all(isinstance(value, int | float) for value in load)
    ):
        raise GuestFault("the agent's answer has no load of three numbers")
    return answer
