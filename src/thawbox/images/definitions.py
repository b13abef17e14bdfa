"""The base images that can be made from Debian's packages: their names and packages.

All have the packages of Debian's minimal image, and CA certificates. The plain python and node names add git and curl
to the ``-slim`` ones, because programs made for the official images expect them. Compilers are left out: wheels seldom
need them, and they triple the size.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from .reference import DEFAULT_HOST, Reference
from .values import PATH, ImageConfig

VERSION = 1
"""Part of the digest. Increase it when the same definition gives another tree."""

NPM = "10"
"""The npm that goes with Node.js 18 and 20, when this machine's npm can fetch it."""

_SUITES = {"11": "bullseye", "12": "bookworm", "13": "trixie"}
_PYTHONS = {"3.9": "bullseye", "3.11": "bookworm", "3.13": "trixie"}
_NODES = {"18": "bookworm", "20": "trixie"}
_TOOLS = ("git", "curl")
_PYTHON_PACKAGES = ("python3", "python3-venv", "netbase", "tzdata")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a bootstrapped image is made of."""

    family: str
    """debian, python or node"""
    suite: str
    """Debian's codename"""
    packages: tuple[str, ...]

    def digest(self, *more: str) -> str:
        """``sha256:…`` of the definition, ``VERSION`` and ``more``."""
        text = json.dumps([VERSION, NPM if self.family == "node" else "", asdict(self), more], sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def config(self) -> ImageConfig:
        """The config of such an image: that of the official image of the same name."""
        env = [("PATH", PATH)]
        if self.family == "python":
            env.append(("LANG", "C.UTF-8"))
        command = {"debian": "bash", "python": "python3", "node": "node"}[self.family]
        return ImageConfig(env=tuple(env), cmd=(command,))


def find(reference: Reference) -> Definition | None:
    """The definition for a reference; None if it names something else."""
    path, _, name = reference.repository.rpartition("/")
    if reference.host != DEFAULT_HOST or path != "library" or reference.digest or not reference.tag:
        return None
    return _known().get(f"{name}:{reference.tag}")


def names() -> tuple[str, ...]:
    """The names to show to users, without variants."""
    return (
        *(f"debian:{version}" for version in _SUITES),
        *(f"python:{version}" for version in _PYTHONS),
        *(f"node:{version}" for version in _NODES),
    )


def _known() -> dict[str, Definition]:
    known: dict[str, Definition] = {}
    for version, suite in _SUITES.items():
        debian = Definition("debian", suite, ())
        for tag in (version, suite):
            known[f"debian:{tag}"] = known[f"debian:{tag}-slim"] = debian
    for family, versions, packages in (
        ("python", _PYTHONS, _PYTHON_PACKAGES),
        ("node", _NODES, ("nodejs",)),
    ):
        for version, suite in versions.items():
            full = Definition(family, suite, (*packages, *_TOOLS))
            slim = Definition(family, suite, packages)
            known[f"{family}:{version}"] = known[f"{family}:{version}-{suite}"] = full
            known[f"{family}:{version}-slim"] = known[f"{family}:{version}-slim-{suite}"] = slim
            known[f"{family}:{version}-{suite}-slim"] = slim
    return known
