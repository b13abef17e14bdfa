"""Getting the runtime onto the machine: runsc, the agent's image, and the proof that they work.

``python -m thawbox.machine.install`` is what ``scripts/setup`` calls. runsc comes from the first source that works:
a path that the operator names (``THAWBOX_RUNSC``); a released archive with its checksum
(``THAWBOX_RUNSC_URL`` and ``THAWBOX_RUNSC_SHA512``); a build of the pinned Go module in ``runsc/`` beside this file.
"""

from __future__ import annotations

import asyncio
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
from thawbox.node.installed import agent_image, file_digest
from thawbox.settings import Settings, load
from thawbox.state import Layout

from .selftest import run_selftest

MODULE = Path(__file__).parent / "runsc"
"""The Go module that runsc is built from: gVisor, pinned, and what is added to it."""
_SOURCES = ("go.sum", "main.go", "idle.go", "precompile/main.go")
_VERSION = "20260905.0-160fafc42237"
"""Date and commit of the pinned module. No "release-" in front: that switches on checks for helper binaries."""


def install(settings: Settings) -> None:
    """Install what is missing, and say what is being done.

    Raises:
        RuntimeFault: every source failed, or the self-test did.
    """
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
    return " ".join([_VERSION, *(file_digest(MODULE / name, "sha256") for name in _SOURCES)])


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
        if file_digest(half_made, "sha512") != sha512.lower():
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


def main() -> int:
    """Entry point of ``python -m thawbox.machine.install``."""
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
