"""Calls skopeo, which talks to registries, and explains its errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from thawbox import processes

from .credentials import authfile
from .values import SourceFailure

_POLICY = Path("/etc/containers/policy.json")


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository to download from, a mirror's if one is configured: ``host[:port]`` and the path below it."""

    host: str
    path: str
    insecure: bool

    @property
    def name(self) -> str:
        """``host/path``"""
        return f"{self.host}/{self.path}"


class Skopeo:
    """skopeo for one repository, with one login and one temporary folder. Made by ``opened``."""

    def __init__(self, repository: Repository, folder: Path, auth: Path, *, reply_s: int) -> None:
        self._repository = repository
        self._folder = folder
        self._auth = auth
        self._reply_s = reply_s

    async def raw(self, suffix: str) -> bytes:
        """The index or manifest at ``:tag`` or ``@digest``, byte by byte.

        Raises:
            SourceFailure: it did not work.
        """
        args = ["inspect", "--raw", *self._common("")]
        return await self._run([*args, f"docker://{self._repository.name}{suffix}"], self._reply_s)

    async def download(self, digest: str, target: Path, *, largest: int, timeout_s: int) -> None:
        """Download all layers and the config of the manifest ``digest`` into ``target``, and check their digests.

        The files are named by their hexadecimal digests. A file of more than ``largest`` bytes is an error.

        Raises:
            SourceFailure: it did not work.
        """
        args = ["copy", "--quiet", "--remove-signatures", *self._common("src-")]
        source, goal = f"docker://{self._repository.name}@{digest}", f"dir:{target}"
        await self._run([*args, source, goal], timeout_s, limits=[f"--fsize={largest}"])

    def _common(self, prefix: str) -> list[str]:
        verify = f"--{prefix}tls-verify={'false' if self._repository.insecure else 'true'}"
        return [f"--{prefix}authfile={self._auth}", verify]

    async def _run(self, args: list[str], timeout_s: int, limits: list[str] | None = None) -> bytes:
        general = [f"--tmpdir={self._folder}"]
        if not _POLICY.exists():
            general.append("--insecure-policy")
        # These folders may hold logins of the server's user: use an empty one instead.
        env = processes.plain_environment(
            **dict.fromkeys(
                ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"), str(self._folder)
            )
        )
        limited = ["prlimit", *limits] if limits else []
        try:
            ended = await processes.run(
                [*limited, "skopeo", *general, *args],
                timeout_s=timeout_s,
                check=False,
                env=env,
                die_with_parent=True,
            )
        except processes.TimedOut:
            raise SourceFailure(
                f"{self._repository.host} is unreachable (no answer within {timeout_s} s)"
            ) from None
        except processes.ProgramMissing as missing:
            raise SourceFailure(missing.message) from None
        if ended.status:
            raise explain(self._repository, " ".join(ended.tail))
        return ended.stdout


@contextmanager
def opened(
    repository: Repository, folder: Path, account: tuple[str, str] | None, *, reply_s: int
) -> Iterator[Skopeo]:
    """skopeo for ``repository``. ``folder`` is a private temporary folder, ``reply_s`` the time limit of a request."""
    os.chmod(folder, 0o700)
    with authfile(folder, repository.host, account) as auth:
        yield Skopeo(repository, folder, auth, reply_s=reply_s)


def explain(repository: Repository, output: str) -> SourceFailure:
    """Turn the error output of skopeo into a sentence for users."""
    text = output.lower()
    if _has(text, "no such host", "connection refused", "i/o timeout", "network is unreachable", "no route to host",
            "tls handshake timeout", "connection reset", "proxyconnect", "deadline exceeded", "server misbehaving",
            "temporary failure in name resolution", "connection timed out"):  # fmt: skip
        return SourceFailure(f"{repository.host} is unreachable ({_cause(output)})")
    if "http response to https client" in text:
        return SourceFailure(
            f"{repository.host} speaks plain HTTP: name it in the setting registry_insecure if you trust it"
        )
    if _has(text, "x509:", "certificate"):
        return SourceFailure(
            f"{repository.host} has a certificate that this machine does not trust ({_cause(output)})"
        )
    if _has(text, "toomanyrequests", "too many requests", "status code 429"):
        return SourceFailure(
            f"{repository.host} accepts no more requests for now (too many): log in, or try again later"
        )
    if _has(
        text,
        "unauthorized",
        "authentication required",
        "invalid username/password",
        "status code 401",
        " 401 ",
    ):
        return SourceFailure(
            f"{repository.host} requires a login for {repository.path} (401): give registry_credentials or "
            "correct them; registries answer the same for names that do not exist"
        )
    if _has(text, "denied", "forbidden", "status code 403", " 403 "):
        return SourceFailure(
            f"{repository.host} denies access to {repository.path} (403): the login has no right to it"
        )
    if _has(
        text, "manifest unknown", "name unknown", "not found", "status code 404", " 404 ", "name_unknown"
    ):
        return SourceFailure(f"{repository.host} has no such image (404): check the name and the tag")
    if "no space left" in text:
        return SourceFailure("no space left for the download", final=True)
    if "file too large" in text:
        return SourceFailure(f"{repository.host} sends more than the image's manifest says", final=True)
    return SourceFailure(f"{repository.host} failed: {_cause(output)}")


def _has(text: str, *words: str) -> bool:
    return any(word in text for word in words)


def _cause(output: str) -> str:
    """The innermost of Go's nested errors: the last two parts between ``: ``."""
    match = re.search(r'msg="(.*)"', output)
    text = (match[1] if match else output).replace('\\"', '"')
    return ": ".join(text.split(": ")[-2:])[-200:]
