"""Finds the Debian mirror to use: the configured one, else this machine's, else mmdebstrap's default.

Only HTTP and HTTPS addresses are used, because the image's own apt uses them later. Source of the formats:
sources.list(5).
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_ROLES = ("", "-updates", "-security")
_OPTIONS = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True, slots=True)
class AptSource:
    """A ``deb`` source in apt's configuration: addresses and suites."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mirror:
    """Addresses of a mirror, without user names and passwords. None: the mirror does not have it.

    ``main`` is for SUITE, ``updates`` for SUITE-updates, ``security`` for SUITE-security.
    """

    main: str
    updates: str | None
    security: str | None

    def sources(self, suite: str, *, options: str = "") -> list[str]:
        """Lines for sources.list."""
        by_role = zip(_ROLES, (self.main, self.updates, self.security), strict=True)
        bracket = f"[{options}] " if options else ""
        return [f"deb {bracket}{uri} {suite}{role} main" for role, uri in by_role if uri]

    def releases(self, suite: str) -> list[tuple[str, str]]:
        """(role, address of the signed release file) of each source."""
        by_role = zip(_ROLES, (self.main, self.updates, self.security), strict=True)
        return [(role, f"{uri.rstrip('/')}/dists/{suite}{role}/InRelease") for role, uri in by_role if uri]

    def without(self, roles: Iterable[str]) -> Mirror:
        """A copy without these roles (``-updates``, ``-security``)."""
        gone = set(roles)
        return Mirror(
            self.main,
            None if "-updates" in gone else self.updates,
            None if "-security" in gone else self.security,
        )


def configured(setting: str) -> Mirror:
    """The mirror of the setting ``debian_mirror``: one address, or two, of which the second is for security updates.

    If there is one, security updates are expected where mirrors have them: ``…/debian`` and ``…/debian-security``.
    """
    main, *rest = (_plain(uri) for uri in setting.split())
    return Mirror(main, main, rest[0] if rest else f"{main.rstrip('/')}-security")


def of_host(etc: Path = Path("/etc")) -> Mirror | None:
    """The mirror in this machine's apt sources; None if it is not Debian, or no source can be used."""
    release = platform.freedesktop_os_release() if etc == Path("/etc") else _os_release(etc / "os-release")
    codename = release.get("VERSION_CODENAME")
    if release.get("ID") != "debian" or not codename:
        return None
    found: dict[str, str] = {}
    for entry in host_entries(etc / "apt"):
        uri = next((usable for uri in entry.uris if (usable := _usable(uri, etc))), None)
        for suite in entry.suites:
            role = _role(suite, codename)
            if uri and role is not None:
                found.setdefault(role, uri)
    if "" not in found:
        return None
    return Mirror(found[""], found.get("-updates"), found.get("-security"))


def from_lines(lines: Iterable[str], suite: str) -> Mirror | None:
    """The mirror for ``suite`` in the lines of a sources.list; None if there is none."""
    found: dict[str, str] = {}
    for entry in one_line("\n".join(lines)):
        for name in entry.suites:
            role = _role(name, suite)
            if role is not None:
                found.setdefault(role, _plain(entry.uris[0]))
    return Mirror(found[""], found.get("-updates"), found.get("-security")) if "" in found else None


def host_entries(apt: Path) -> list[AptSource]:
    """All ``deb`` sources below an /etc/apt, in apt's order."""
    entries: list[AptSource] = []
    for file in (apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))):
        try:
            text = file.read_text(errors="replace")
        except OSError:
            continue
        if file.suffix == ".list":
            entries += one_line(text)
        elif file.suffix == ".sources":
            entries += deb822(text)
    return entries


def one_line(text: str) -> list[AptSource]:
    """Read the one-line format: ``deb [options] uri suite components…``."""
    entries = []
    for line in text.splitlines():
        words = _OPTIONS.sub(" ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            entries.append(AptSource((words[1],), (words[2],)))
    return entries


def deb822(text: str) -> list[AptSource]:
    """Read the format of ``.sources`` files: paragraphs of ``Field: values``."""
    entries = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        fields = _fields(paragraph)
        wanted = "deb" in fields.get("types", []) and fields.get("enabled", ["yes"])[0].lower() not in (
            "no",
            "false",
        )
        if wanted and fields.get("uris") and fields.get("suites"):
            entries.append(AptSource(tuple(fields["uris"]), tuple(fields["suites"])))
    return entries


def _fields(paragraph: str) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    current: list[str] = []
    for line in paragraph.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t":
            current += line.split()
            continue
        name, _, value = line.partition(":")
        current = fields.setdefault(name.strip().lower(), [])
        current += value.split()
    return {name: values for name, values in fields.items() if values}


def _role(suite: str, codename: str) -> str | None:
    if suite == f"{codename}/updates":
        return "-security"
    return next((role for role in _ROLES if suite == f"{codename}{role}"), None)


def _usable(uri: str, etc: Path) -> str | None:
    """The address without login; None if it is not HTTP or HTTPS. Of a list of mirrors in a file the first is used."""
    if uri.startswith("mirror+file:"):
        listed = Path("/" + uri.removeprefix("mirror+file:").lstrip("/"))
        try:
            lines = (etc.parent / listed.relative_to("/")).read_text().split("\n")
        except OSError:
            return None
        words = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
        uri = words[0] if words else ""
    return _plain(uri) if uri.startswith(("http://", "https://")) else None


def _plain(uri: str) -> str:
    """The address without user name and password; apt reads those from its auth.conf."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _os_release(file: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in file.read_text().splitlines())
    return {name: value.strip('"') for name, _, value in pairs}
