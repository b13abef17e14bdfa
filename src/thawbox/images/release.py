"""What a Debian mirror offers for a suite, looked up once a day: its sources and the point release.

The point release is part of a bootstrapped image's digest, so cached images are made again when Debian publishes one
(about every two months). Not more often, because a new base invalidates all cached steps above it.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from thawbox import processes
from thawbox.settings import Settings
from thawbox.state import Layout

from . import mirrors, scratch
from .mirrors import Mirror
from .values import Log, SourceFailure

_HELPER = "/usr/lib/apt/apt-helper"
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Release:
    """A suite at a mirror. ``mirror`` has only the sources that exist; ``stamp`` names the point release."""

    mirror: Mirror
    stamp: str


async def current(suite: str, *, settings: Settings, log: Log) -> Release:
    """The release of ``suite``: the remembered one if it is less than a day old or the mirror does not answer.

    Raises:
        SourceFailure: the mirror does not answer or lacks the suite, and none is remembered.
    """
    chosen = _chosen(settings)
    remembered = Layout(settings.state).cache / "apt" / f"{suite}.json"
    known, age_s = _recall(remembered, chosen)
    if known and 0 <= age_s < _DAY_S:
        return known
    try:
        found = await _look_up(chosen or await _default(suite, settings), suite, settings, log)
    except SourceFailure as failure:
        if not known:
            raise
        log(f"{failure.reason}: using what the mirror offered for {suite} {age_s / _DAY_S:.0f} days ago")
        return known
    remembered.parent.mkdir(parents=True, exist_ok=True)
    fresh = remembered.with_suffix(".new")
    fresh.write_text(
        json.dumps(
            {"for": _key(chosen), "asked": time.time(), "mirror": asdict(found.mirror), "stamp": found.stamp}
        )
    )
    fresh.replace(remembered)
    return found


def _chosen(settings: Settings) -> Mirror | None:
    return mirrors.configured(settings.debian_mirror) if settings.debian_mirror else mirrors.of_host()


def _key(chosen: Mirror | None) -> object:
    return asdict(chosen) if chosen else None


def _recall(file: Path, chosen: Mirror | None) -> tuple[Release | None, float]:
    """The remembered release, if there is one for this mirror, and its age in seconds."""
    try:
        stored = json.loads(file.read_text())
        if stored["for"] == _key(chosen):
            return Release(Mirror(**stored["mirror"]), stored["stamp"]), time.time() - stored["asked"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None, 0.0


async def _default(suite: str, settings: Settings) -> Mirror:
    """mmdebstrap's default mirror, as mmdebstrap writes it into a sources.list."""
    async with scratch.folder(settings) as folder:
        args = [
            "mmdebstrap", "--quiet", "--mode=root", "--variant=custom", "--format=directory", "--skip=update,cleanup",
            '--setup-hook=cp "$1"/etc/apt/sources.list "$THAWBOX_ANSWER"', suite, str(folder / "root"),
        ]  # fmt: skip
        env = processes.plain_environment(THAWBOX_ANSWER=str(folder / "answer"), TMPDIR=str(folder))
        try:
            await processes.run(args, timeout_s=30, check=False, env=env, die_with_parent=True)
            answer = (folder / "answer").read_text()
        except (processes.ProgramMissing, processes.TimedOut, FileNotFoundError):
            raise SourceFailure("mmdebstrap does not report its default mirror: set debian_mirror") from None
    found = mirrors.from_lines(answer.splitlines(), suite)
    if not found:
        raise SourceFailure(f"mmdebstrap knows no mirror for {suite}: set debian_mirror")
    return found


async def _look_up(mirror: Mirror, suite: str, settings: Settings, log: Log) -> Release:
    """Fetch the release files by apt's downloader, which uses this machine's proxies, logins and CAs."""
    wanted = mirror.releases(suite)
    async with scratch.folder(settings) as folder:
        files = {role: folder / f"release{role}" for role, _ in wanted}
        args = [
            _HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0",
            "-o", f"Acquire::http::Timeout={settings.registry_timeout_s}",
            "-o", f"Acquire::https::Timeout={settings.registry_timeout_s}", "download-file",
        ]  # fmt: skip
        for role, address in wanted:
            args += [address, str(files[role])]
        try:
            ended = await processes.run(
                args, timeout_s=2 * settings.registry_timeout_s, check=False, die_with_parent=True
            )
            output = "\n".join(ended.tail)
        except processes.ProgramMissing:
            raise SourceFailure(f"{_HELPER} is missing: this machine has no apt") from None
        except processes.TimedOut:
            output = f"no answer within {2 * settings.registry_timeout_s} s"
        missing = {role: address for role, address in wanted if not files[role].exists()}
        for role, address in missing.items():
            if role == "" or not re.search(re.escape(address) + r"\s+404", output):
                raise SourceFailure(
                    f"the Debian mirror does not deliver {address} ({_reason(output, address)})"
                )
            log(f"The mirror has no {suite}{role}: going on without")
        stamp = _stamp(files[""].read_text(errors="replace"))
    return Release(mirror.without(missing), stamp)


def _reason(output: str, address: str) -> str:
    match = re.search(re.escape(address) + r"\s+(.*)", output)
    return (match[1] if match else output.rpartition("\n")[2]).strip()[:200] or "no reason given"


def _stamp(release: str) -> str:
    fields = dict(re.findall(r"^(Codename|Version|Date): (.*)$", release, re.MULTILINE))
    if "Date" not in fields:
        raise SourceFailure(
            "the Debian mirror sent something that is not a release file: check debian_mirror"
        )
    return " ".join(fields.get(name, "") for name in ("Codename", "Version", "Date"))
