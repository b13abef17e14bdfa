"""A registry of our own on loopback, and images made by hand to push there."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from thawbox.images.manifest import architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ACCOUNT = ("alice", "correct horse")
_BCRYPT = "$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def entry(name: str, content: bytes | None = None, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A tar entry: a file if it has ``content``, a folder if its name ends in ``/``, else what ``fields`` say."""
    info = tarfile.TarInfo(name.rstrip("/"))
    info.mode, info.mtime = 0o644, 1_700_000_000
    if name.endswith("/"):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    info.name = name.rstrip("/") or name
    for field, value in fields.items():
        setattr(info, field, value)
    info.size = fields.get("size", len(content or b""))
    return info, content or b""


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A symlink entry."""
    return entry(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    """A hard link entry."""
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Packed:
    """A layer as it lies in a registry."""

    blob: bytes
    media_type: str
    diff_id: str


def packed(tar: bytes, compression: str = "gzip") -> Packed:
    """``tar`` with ``gzip``, ``zstd`` or no compression."""
    if compression == "gzip":
        blob = gzip.compress(tar, mtime=0)
    elif compression == "zstd":
        blob = subprocess.run(["zstd", "-c", "-q"], input=tar, capture_output=True, check=True).stdout
    else:
        blob = tar
    suffix = f"+{compression}" if compression != "none" else ""
    return Packed(blob, _LAYER + suffix, digest_of(tar))


def digest_of(content: bytes) -> str:
    """``sha256:…``"""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(frozen=True)
class Registry:
    """A running registry."""

    host: str
    account: tuple[str, str] | None = None

    def push(
        self,
        repository: str,
        tag: str,
        layers: Sequence[Packed],
        *,
        config: dict[str, Any] | None = None,
        arch: str | None = None,
    ) -> str:
        """Push an image; gives its manifest's digest. An empty ``tag`` leaves it without."""
        document = {
            "os": "linux",
            "architecture": arch or architecture(),
            "config": config or {},
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        }
        named = [self._blob(repository, json.dumps(document).encode(), _CONFIG)]
        named += [self._blob(repository, one.blob, one.media_type) for one in layers]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": named[0], "layers": named[1:]}
        return self.document(repository, tag, manifest, MANIFEST)

    def index(self, repository: str, tag: str, platforms: dict[str, str]) -> str:
        """Push an index of ``os/architecture`` -> manifest digest; gives its own digest."""
        manifests = []
        for name, digest in platforms.items():
            os, arch = name.split("/")
            manifests.append(
                {
                    "mediaType": MANIFEST,
                    "digest": digest,
                    "size": self._size(repository, digest),
                    "platform": {"os": os, "architecture": arch},
                }
            )
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.document(repository, tag, index, INDEX)

    def document(self, repository: str, tag: str, content: dict[str, Any], media_type: str) -> str:
        """Push a manifest or index as it is."""
        raw = json.dumps(content).encode()
        digest = digest_of(raw)
        with self._client() as client:
            url = f"/v2/{repository}/manifests/{tag or digest}"
            client.put(url, content=raw, headers={"Content-Type": media_type}).raise_for_status()
        return digest

    def _size(self, repository: str, digest: str) -> int:
        with self._client() as client:
            answer = client.get(f"/v2/{repository}/manifests/{digest}", headers={"Accept": MANIFEST})
            return len(answer.raise_for_status().content)

    def _blob(self, repository: str, content: bytes, media_type: str) -> dict[str, Any]:
        digest = digest_of(content)
        with self._client() as client:
            begun = client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            url = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": digest})
            octets = {"Content-Type": "application/octet-stream"}
            client.put(url, content=content, headers=octets).raise_for_status()
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.host}", auth=self.account, trust_env=False, timeout=60)


@contextmanager
def running(folder: Path, *, private: bool = False) -> Iterator[Registry]:
    """Debian's docker-registry on a free port of loopback, with its files in ``folder``.

    A private one wants ``ACCOUNT`` for everything.
    """
    account = ACCOUNT if private else None
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": "127.0.0.1:0"},
    }
    if account:
        (folder / "htpasswd").write_text(f"{account[0]}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    (folder / "config.json").write_text(json.dumps(config))  # JSON is YAML
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        ["docker-registry", "serve", str(folder / "config.json")], stdout=log, stderr=subprocess.STDOUT
    )
    try:
        yield Registry(_address(process), account)
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def _address(process: subprocess.Popen[bytes]) -> str:
    """Where it listens: it took a free port and tells nobody, so ask the kernel."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in _sockets(process.pid):
                return f"127.0.0.1:{int(fields[1].rpartition(':')[2], 16)}"
        time.sleep(0.01)
    raise RuntimeError("docker-registry did not start")


def _sockets(pid: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found
