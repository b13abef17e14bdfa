"""Getting the runtime onto the machine: runsc, the agent's image, and the proof that they work.

``python -m thawbox.node.install`` is what ``scripts/setup`` calls. runsc comes from the first source that works:
a path that the operator names (``THAWBOX_RUNSC``); a released archive with its checksum
(``THAWBOX_RUNSC_URL`` and ``THAWBOX_RUNSC_SHA512``); a build of the pinned Go module in ``runtime/``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import httpx

from thawbox import log
from thawbox.errors import RuntimeFault, ThawboxError
from thawbox.guest.image import build_agent_image
from thawbox.settings import Settings, load

from . import gvisor
from .layout import Layout

DEFAULT_STATE = Path("/var/lib/thawbox")
MODULE = Path(__file__).parents[3] / "runtime"
"""The Go module of a source checkout: gVisor, pinned, and what it is built with."""
_SOURCES = ("go.sum", "main.go", "idle.go", "precompile/main.go")
_VERSION = "20260905.0-160fafc42237"
"""Date and commit of the pinned module. No "release-" in front: that switches on checks for helper binaries."""
HASH_FILE_SUFFIX = ".sha256"


def installed_runsc(settings: Settings) -> Path:
    """The runsc to use.

    Raises:
        RuntimeFault: there is none.
    """
    candidates = [
        settings.runsc,
        Layout(settings.state).runtime / "runsc",
        DEFAULT_STATE / "runtime" / "runsc",
    ]
    if on_path := shutil.which("runsc"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate is not None and candidate.exists():
            return candidate.resolve()
    raise RuntimeFault("runsc is not installed: run scripts/setup, or set THAWBOX_RUNSC to its path")


def agent_image(settings: Settings) -> Path:
    """The agent's image in the state folder; made from this machine's Python if it is not there."""
    if settings.agent_image is not None:
        return settings.agent_image
    return build_agent_image(Layout(settings.state).runtime).path


def open_runsc(settings: Settings) -> gvisor.Runsc:
    """The installed runsc, for this state folder."""
    layout = Layout(settings.state)
    binary = installed_runsc(settings)
    return gvisor.Runsc(binary=binary, root=layout.containers, upper=layout.upper, digest=digest_of(binary))


def digest_of(binary: Path) -> str:
    """sha256 of the file; remembered beside it, as 80 MB take 50 ms, for as long as size and time stay."""
    stat = binary.stat()
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    memo = binary.with_name(binary.name + HASH_FILE_SUFFIX)
    try:
        known, _, digest = memo.read_text().partition(":")
        if known == stamp:
            return digest.strip()
    except OSError:
        pass
    digest = _hash(binary, "sha256")
    with contextlib.suppress(OSError):  # a read-only folder of the operator's: hashed again next time
        memo.write_text(f"{stamp}:{digest}\n")
    return digest


def install(settings: Settings) -> None:
    """Install what is missing, and say what is being done.

    Raises:
        RuntimeFault: every source failed, or the self-test did.
    """
    from .selftest import run_selftest  # needs what this module installs

    layout = Layout(settings.state)
    layout.make()
    _say_step("runsc", lambda: _install_runsc(settings, layout))
    _say_step("agent image", lambda: str(agent_image(settings)))
    _say_step("self-test", lambda: asyncio.run(run_selftest(settings)))


def _say_step(name: str, do: object) -> None:
    began = time.monotonic()
    print(f"   {name} …", flush=True)
    result = do()  # type: ignore[operator]
    print(f"   {name}: {result} ({time.monotonic() - began:.1f} s)", flush=True)


def _install_runsc(settings: Settings, layout: Layout) -> str:
    if settings.runsc is not None:
        if not os.access(settings.runsc, os.X_OK):
            raise RuntimeFault(f"THAWBOX_RUNSC={settings.runsc} is not a program")
        return f"{settings.runsc}, as configured"
    target = layout.runtime / "runsc"
    wanted = _identity()
    stamp = layout.runtime / "runsc.from"
    if target.exists() and stamp.exists() and stamp.read_text() == wanted:
        return f"{target} is up to date"
    if url := os.environ.get("THAWBOX_RUNSC_URL"):
        _download(url, os.environ.get("THAWBOX_RUNSC_SHA512", ""), layout, target)
    else:
        _build(layout, target)
    stamp.write_text(wanted)
    return str(target)


def _identity() -> str:
    if url := os.environ.get("THAWBOX_RUNSC_URL"):
        return f"{url} {os.environ.get('THAWBOX_RUNSC_SHA512', '')}"
    return " ".join([_VERSION, *(_hash(MODULE / name, "sha256") for name in _SOURCES)])


def _build(layout: Layout, target: Path) -> None:
    go = shutil.which("go") or ("/usr/local/go/bin/go" if Path("/usr/local/go/bin/go").exists() else None)
    if go is None:
        raise RuntimeFault(
            "runsc has to be built here, and there is no Go: install Go 1.26.3 or newer, or set THAWBOX_RUNSC to a "
            "runsc binary, or THAWBOX_RUNSC_URL and THAWBOX_RUNSC_SHA512 to a released one"
        )
    print(
        "   building runsc from its pinned source: about 75 s on two cores, longer on the first run",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="runsc-", dir=layout.tmp) as name:
        module = shutil.copytree(MODULE, Path(name) / "runtime")
        filters = _go(go, module, "run", "-mod=readonly", "-trimpath", "./precompile")
        (module / "filters.go").write_text(filters)
        version = f"-s -w -X gvisor.dev/gvisor/runsc/version.version={_VERSION}"
        _go(go, module, "build", "-mod=readonly", "-trimpath", "-ldflags", version, "-o", "runsc", ".")
        (module / "runsc").rename(target)


def _go(program: str, module: Path, *arguments: str) -> str:
    done = subprocess.run(
        [program, *arguments],
        cwd=module,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeFault(f"go {arguments[0]} of runsc failed: {done.stderr[-2000:]}")
    return done.stdout


def _download(url: str, sha512: str, layout: Layout, target: Path) -> None:
    if len(sha512) != 128:
        raise RuntimeFault(
            "THAWBOX_RUNSC_SHA512 has to hold the 128 hex digits of the file at THAWBOX_RUNSC_URL"
        )
    half_made = layout.tmp / f"runsc-{secrets.token_hex(4)}"
    unpacked = half_made.with_suffix(".d")
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            with open(half_made, "wb") as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
        if _hash(half_made, "sha512") != sha512.lower():
            raise RuntimeFault(
                f"{url} does not have the checksum of THAWBOX_RUNSC_SHA512; nothing was installed"
            )
        if not tarfile.is_tarfile(half_made):
            half_made.chmod(0o755)
            half_made.rename(target)
            return
        # A release with its helper programs: they have to stay beside runsc.
        with tarfile.open(half_made) as archive:
            archive.extractall(unpacked, filter="data")
        found = next(unpacked.rglob("runsc"), None)
        if found is None:
            raise RuntimeFault(f"there is no runsc in {url}")
        release = layout.runtime / f"release-{sha512[:16]}"
        shutil.rmtree(release, ignore_errors=True)
        found.parent.rename(release)
        link = layout.tmp / f"link-{secrets.token_hex(4)}"
        link.symlink_to(release / "runsc")
        link.rename(target)
    except httpx.HTTPError as error:
        raise RuntimeFault(f"{url} cannot be downloaded: {error}") from error
    finally:
        half_made.unlink(missing_ok=True)
        shutil.rmtree(unpacked, ignore_errors=True)


def _hash(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def main() -> int:
    """Entry point of ``python -m thawbox.node.install``."""
    settings = load()
    log.configure(settings.model_copy(update={"log_level": "warning"}))  # the steps say what is of interest
    try:
        install(settings)
    except ThawboxError as error:
        print(f"   failed: {error.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
