"""Base images made from Debian's packages. One of the two sources; their contract is in ``source``.

mmdebstrap runs in a mount and a process namespace of its own. When it is killed, its children and its mounts go with
it; one of them is this machine's /dev, bound into the new root. The hooks that finish an image are in ``hooks/``, the
files that they copy into it in ``files/``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import time
from pathlib import Path

from thawbox import processes
from thawbox.errors import BuildError
from thawbox.settings import Settings
from thawbox.state import Layout

from . import manifest, npm, release, scratch
from .definitions import Definition, find, names
from .reference import parse
from .release import Release
from .values import FETCH_TIMEOUT_S, Credentials, ImageConfig, Log, ResolvedBase, SourceFailure

NAME = "bootstrap"

_HERE = Path(__file__).parent
_FILES = _HERE / "files"
_KEYRINGS = tuple(Path(f"/usr/share/keyrings/debian-archive-keyring.{suffix}") for suffix in ("gpg", "pgp"))
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
_ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_LOGGED = ("I: running apt-get", "I: downloading", "I: extracting", "I: installing", "W: ", "E: ")
"""Prefixes of mmdebstrap's lines that go to the build log."""
_APT_OPTIONS = re.compile(
    r"Acquire::(?:(?:https?|ftp)::|Check-Valid-Until |Check-Date |Retries |ForceIPv[46] |Queue-Mode )"
)


async def resolve(
    reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
) -> ResolvedBase:
    """Pin ``reference`` to a digest of its definition, the mirror and the point release. See ``source``."""
    wanted = parse(reference)
    definition = find(wanted)
    if definition is None:
        raise SourceFailure(f"only these can be made from Debian's packages: {', '.join(names())}")
    if not shutil.which("mmdebstrap"):
        raise SourceFailure("the program mmdebstrap is not installed: run sudo thaw setup --install-packages")
    _keyring()
    offer = await release.current(definition.suite, settings=settings, log=log)
    digest = definition.digest(manifest.architecture(), offer.stamp, *offer.mirror.sources(definition.suite))
    return ResolvedBase(
        reference=str(wanted),
        digest=digest,
        source=NAME,
        private=False,
        detail=f"{wanted.short} made from Debian packages ({offer.stamp}), {digest[:19]}",
    )


async def fetch(
    resolved: ResolvedBase,
    destination: Path,
    *,
    settings: Settings,
    credentials: Credentials | None,
    log: Log,
) -> ImageConfig:
    """Bootstrap ``resolved`` into ``destination``. See ``source`` for the contract."""
    definition = find(parse(resolved.reference))
    assert definition, resolved
    offer = await release.current(definition.suite, settings=settings, log=log)
    started = time.monotonic()
    packages = ["ca-certificates", *definition.packages]
    tarball = None
    if definition.family == "node":
        tarball = await npm.tarball(settings, log)
        if tarball is None:
            packages.append("npm")
    debs = Layout(settings.state).cache / "apt" / definition.suite
    debs.mkdir(parents=True, exist_ok=True)
    async with scratch.folder(settings) as folder:
        env = processes.plain_environment(
            TMPDIR=str(folder),
            THAWBOX_FILES=str(_FILES),
            THAWBOX_DEBS=str(debs),
            THAWBOX_NPM=str(tarball or ""),
            THAWBOX_SOURCES="\n".join(offer.mirror.sources(definition.suite)),
        )
        options = await _apt_options(folder)
        args = _command(definition, offer, packages, options, destination)
        await _run(args, env, settings, log)
    _forget_old(debs)
    log(f"Made from {len(packages)} named packages and what they need in {time.monotonic() - started:.1f} s")
    return definition.config()


def _command(
    definition: Definition, offer: Release, packages: list[str], options: Path, destination: Path
) -> list[str]:
    command = [
        *_ISOLATED,
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=essential/unlink",
        f"--aptopt={options}",
        f"--include={','.join(packages)}",
        f"--setup-hook={_hook('begin')}",
        f"--customize-hook={_hook(definition.family)}",
        f"--customize-hook={_hook('finish')}",
    ]
    if definition.suite == "bookworm":
        # Without it bookworm gets its merged /usr from the package usrmerge, which brings all of perl (50 MB).
        command.append(f"--hook-dir={_MERGED_USR}")
    sources = offer.mirror.sources(definition.suite, options=f"signed-by={_keyring()}")
    return [*command, definition.suite, str(destination), *sources]


def _hook(name: str) -> str:
    """Command line of a hook. sh runs it, because an installation may lose the files' mode."""
    return f'sh {shlex.quote(str(_HERE / "hooks" / name))} "$1"'


async def _run(args: list[str], env: dict[str, str], settings: Settings, log: Log) -> None:
    def log_progress(line: str) -> None:
        if line.startswith(_LOGGED):
            log(line[3:])

    try:
        ended = await processes.run(
            args, timeout_s=FETCH_TIMEOUT_S, check=False, env=env, line=log_progress, die_with_parent=True
        )
    except processes.ProgramMissing as missing:
        raise BuildError(missing.message) from None
    except processes.TimedOut:
        raise BuildError(f"the base image was not made within {FETCH_TIMEOUT_S} s") from None
    if ended.status:
        errors = [line for line in ended.tail if line.startswith("E: ")] or list(ended.tail)
        raise BuildError(f"the base image could not be made from Debian packages: {' / '.join(errors[:4])}")


def _keyring() -> Path:
    """File with Debian's keys, and no others that this machine may trust.

    Raises:
        SourceFailure: it is not installed.
    """
    for keyring in _KEYRINGS:
        if keyring.exists():
            return keyring
    raise SourceFailure("Debian's signing keys are missing: install the package debian-archive-keyring")


async def _apt_options(folder: Path) -> Path:
    """Write this machine's apt settings for proxies and CAs to a private file: an address may hold a password."""
    dumped = await processes.run(["apt-config", "dump"], timeout_s=30, check=False)
    lines = [line for line in dumped.stdout.decode(errors="replace").splitlines() if _APT_OPTIONS.match(line)]
    lines.append('Acquire::Languages "none";')
    for option, path in (("netrc", "/etc/apt/auth.conf"), ("netrcparts", "/etc/apt/auth.conf.d")):
        if os.path.exists(path):
            lines.append(f'Dir::Etc::{option} "{path}";')
    file = folder / "apt.conf"
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n")
    return file


def _forget_old(debs: Path) -> None:
    """Keep only the newest file of each package, by the archive's times."""
    newest: dict[tuple[str, str], tuple[float, Path]] = {}
    for deb in debs.glob("*.deb"):
        parts = deb.stem.split("_")
        key = (parts[0], parts[-1])
        with contextlib.suppress(FileNotFoundError):  # another bootstrap removes files too
            entry = (deb.stat().st_mtime, deb)
            older = min(entry, newest.get(key, entry))
            newest[key] = max(entry, newest.get(key, entry))
            if older is not newest[key]:
                older[1].unlink(missing_ok=True)
