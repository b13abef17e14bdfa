"""A QEMU virtual machine restored from a saved state: what a snapshot of a whole machine costs.

Kernel and busybox are the distribution's. The machine is booted once, saved when its shell waits at the serial
line, and started from the saved state for every sample, until `true` has been answered there. QEMU translates the
guest's code (TCG): what is compared are machines without KVM, as Thawbox needs none. With KVM it would be faster.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from . import initramfs
from .ground import TIMEOUT_S, Ground, WorkFailed, new_name

_QEMU = "qemu-system-x86_64"
NAME = "QEMU restored from a saved state (TCG, without KVM)"
INSTALL = "apt install qemu-system-x86 busybox-static linux-image-cloud-amd64"
MEMORY_MB = 512
_READY = b"shell-waits"
_INIT = f"""#!/bin/sh
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo {_READY.decode()}
exec sh
"""


@dataclass(frozen=True, slots=True)
class _Machine:
    """A running one, its serial line and its monitor."""

    process: subprocess.Popen[bytes]
    serial: socket.socket
    monitor: socket.socket
    answers: BinaryIO


def missing() -> str | None:
    """Which part is not there."""
    if shutil.which(_QEMU) is None:
        return _QEMU
    if _busybox() is None:
        return "a static busybox"
    return None if _kernel() else "a kernel in /boot"


@contextlib.contextmanager
def prepared(ground: Ground) -> Iterator[Callable[[], float]]:
    """Boot, save, and yield the work."""
    busybox, kernel = _busybox(), _kernel()
    assert busybox is not None
    assert kernel is not None
    initrd = ground.scratch / "initrd.gz"
    initrd.write_bytes(gzip.compress(initramfs.pack(busybox.read_bytes(), _INIT.encode()), compresslevel=1))
    state = ground.scratch / "machine.state"
    kernel_arguments = ["-kernel", str(kernel), "-initrd", str(initrd)]
    kernel_arguments += ["-append", "console=ttyS0 quiet panic=-1 rdinit=/init"]
    with _running(ground, kernel_arguments) as machine:
        _read_until(machine.serial, _READY)
        time.sleep(0.5)  # what the kernel still does after its first program is not wanted in the state
        _save(machine, state)

    def once() -> float:
        began = time.perf_counter()
        with _running(ground, [*kernel_arguments, "-incoming", f"exec:cat {state}"]) as machine:
            while _ask(machine, "query-status")["return"]["status"] != "running":
                if time.perf_counter() - began > TIMEOUT_S:
                    raise WorkFailed("the saved state is not running")
                time.sleep(0.001)
            machine.serial.sendall(b"true; echo re''sult=$?\n")
            _read_until(machine.serial, b"result=0")
            return (time.perf_counter() - began) * 1000

    yield once


@contextlib.contextmanager
def _running(ground: Ground, arguments: list[str]) -> Iterator[_Machine]:
    folder = ground.scratch / new_name()
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        listeners = {}
        for name in ("serial", "monitor"):
            listeners[name] = stack.enter_context(socket.socket(socket.AF_UNIX))
            listeners[name].settimeout(TIMEOUT_S)
            listeners[name].bind(str(folder / name))
            listeners[name].listen()
        process = subprocess.Popen(
            [
                *(_QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-machine", "pc,accel=tcg"),
                *("-m", str(MEMORY_MB), "-cpu", "max", "-smp", "1"),
                *("-chardev", f"socket,id=line,path={folder / 'serial'}", "-serial", "chardev:line"),
                *("-qmp", f"unix:{folder / 'monitor'}"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        stack.callback(_end, process)
        try:
            serial = stack.enter_context(listeners["serial"].accept()[0])
            monitor = stack.enter_context(listeners["monitor"].accept()[0])
        except TimeoutError as error:
            raise WorkFailed("QEMU does not start") from error
        for line in (serial, monitor):
            line.settimeout(TIMEOUT_S)
        answers = stack.enter_context(monitor.makefile("rb"))
        answers.readline()  # the greeting
        machine = _Machine(process, serial, monitor, answers)
        _ask(machine, "qmp_capabilities")
        yield machine


def _ask(machine: _Machine, command: str, **arguments: Any) -> dict[str, Any]:
    """One command's answer; events in between are skipped."""
    with contextlib.suppress(ConnectionError):
        machine.monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while line := machine.answers.readline():
            answer: dict[str, Any] = json.loads(line)
            if "return" in answer:
                return answer
            if "error" in answer:
                raise WorkFailed(f"{command}: {answer['error'].get('desc')}")
    raise WorkFailed(f"QEMU ended: {_last_words(machine.process)}")


def _save(machine: _Machine, state: Path) -> None:
    _ask(machine, "migrate", uri=f"exec:cat > {state}")
    deadline = time.monotonic() + TIMEOUT_S
    while (status := _ask(machine, "query-migrate")["return"].get("status")) != "completed":
        if status == "failed" or time.monotonic() > deadline:
            raise WorkFailed(f"the state was not saved: {status}")
        time.sleep(0.02)


def _read_until(serial: socket.socket, wanted: bytes) -> None:
    seen = b""
    try:
        while wanted not in seen:
            chunk = serial.recv(4096)
            if not chunk:
                raise WorkFailed(f"the serial line closed after {seen[-200:]!r}")
            seen += chunk
    except TimeoutError as error:
        raise WorkFailed(f"no {wanted!r} on the serial line, but {seen[-200:]!r}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    _, said = process.communicate(timeout=TIMEOUT_S)
    return said[-200:].decode(errors="replace")


def _busybox() -> Path | None:
    found = shutil.which("busybox")
    return Path(found) if found else None


def _kernel() -> Path | None:
    """The cloud kernel if there is one, else the newest."""
    found = sorted(Path("/boot").glob("vmlinuz-*"))
    return next((one for one in reversed(found) if "cloud" in one.name), found[-1] if found else None)
