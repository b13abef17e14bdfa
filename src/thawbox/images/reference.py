"""Image references: ``[host[:port]/]path[:tag][@digest]``, as Docker reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from thawbox.errors import BuildError

DEFAULT_HOST = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image reference. ``tag`` is ``latest`` if neither a tag nor a digest was given."""

    host: str
    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{self.suffix}"

    @property
    def suffix(self) -> str:
        """``@digest`` if there is one (the tag is ignored then), else ``:tag``."""
        return f"@{self.digest}" if self.digest else f":{self.tag}"

    @property
    def short(self) -> str:
        """The name as people write it: ``debian:12`` for ``docker.io/library/debian:12``."""
        name = str(self)
        for prefix in (f"{DEFAULT_HOST}/library/", f"{DEFAULT_HOST}/"):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
        return name


def parse(text: str) -> Reference:
    """Read an image reference.

    Raises:
        BuildError: ``text`` is not an image reference; the message says why.
    """
    if not text or len(text) > _LONGEST:
        raise BuildError(f"base image: must have 1 to {_LONGEST} characters, not {len(text)}")
    if "://" in text:
        raise _wrong(text, "leave out the part up to '://'")
    name, _, digest = text.partition("@")
    if digest and not _DIGEST.fullmatch(digest):
        raise _wrong(text, "after '@' comes sha256: and 64 hexadecimal digits")
    if text.endswith("@"):
        raise _wrong(text, "nothing follows '@'")
    tag: str | None = None
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise _wrong(text, "a tag has up to 128 letters, digits, '_', '.' and '-'")
    host, repository = _split_host(name)
    if not _HOST.fullmatch(host):
        raise _wrong(text, f"{host!r} is not a registry host")
    if not _REPOSITORY.fullmatch(repository) or len(repository) > 255:
        raise _wrong(text, "a name has lower-case letters, digits, and single '.', '_', '-' between them")
    if not tag and not digest:
        tag = "latest"
    return Reference(host, repository, tag, digest or None)


def _split_host(name: str) -> tuple[str, str]:
    """Split into host and repository by Docker's rule: the first part is a host if it looks like one."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        host, repository = (DEFAULT_HOST if first == f"index.{DEFAULT_HOST}" else first), rest
    else:
        host, repository = DEFAULT_HOST, name
    if host == DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    return host, repository


def _wrong(text: str, why: str) -> BuildError:
    return BuildError(f"base image {text!r} is not an image reference: {why}")
