"""Base images from a registry. One of the two sources; their contract is in ``source``.

skopeo talks to the registry and checks digests. ``unpack`` unpacks the layers, because an image must not fill the disk
or write outside its folder, and because tools of Debian 12 cannot read zstd layers.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from thawbox import processes
from thawbox.errors import BuildError
from thawbox.settings import Settings

from . import confined, credentials, manifest, scratch, skopeo, unpack
from .reference import Reference, parse
from .skopeo import Repository, Skopeo
from .values import FETCH_TIMEOUT_S, Credentials, ImageConfig, Log, ResolvedBase, SourceFailure

NAME = "registry"

_LARGEST_DOCUMENT = 16 * 1024 * 1024
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SHARE_OF_FREE = 0.9
"""Share of the free disk space that an image may use."""


async def resolve(
    reference: str, *, settings: Settings, credentials: Credentials | None, log: Log
) -> ResolvedBase:
    """Pin ``reference`` to the digest of this architecture's manifest. See ``source`` for the contract."""
    wanted = parse(reference)
    repository = repository_of(wanted, settings, mirrored=credentials is None)
    try:
        account = await _account(credentials, wanted, settings)
        async with scratch.folder(settings) as folder:
            with skopeo.opened(repository, folder, account, reply_s=settings.registry_timeout_s) as client:
                document = _checked(await client.raw(wanted.suffix), wanted.digest)
        digest = manifest.choose(document) or _digest(document)
    except SourceFailure as failure:
        # The owner gave a login for this registry: do not use an image from elsewhere instead.
        raise SourceFailure(failure.reason, final=failure.final or credentials is not None) from None
    through = "" if repository.host == wanted.host else f" through {repository.host}"
    return ResolvedBase(
        reference=str(wanted),
        digest=digest,
        source=NAME,
        private=account is not None,
        detail=f"{wanted.short} from the registry {wanted.host}{through}, {digest[:19]}",
    )


async def fetch(
    resolved: ResolvedBase,
    destination: Path,
    *,
    settings: Settings,
    credentials: Credentials | None,
    log: Log,
) -> ImageConfig:
    """Download and unpack ``resolved`` into ``destination``. See ``source`` for the contract."""
    wanted = parse(resolved.reference)
    repository = repository_of(wanted, settings, mirrored=not resolved.private)
    account = await _account(credentials if resolved.private else None, wanted, settings)
    limit = _limit(destination, settings)
    async with scratch.folder(settings) as folder:
        with skopeo.opened(repository, folder, account, reply_s=settings.registry_timeout_s) as client:
            document, config, blobs = await _download(client, resolved, folder, limit, settings, log)
        await _unpack(document, blobs, destination, limit, settings, log)
    return config


def repository_of(wanted: Reference, settings: Settings, *, mirrored: bool) -> Repository:
    """The repository to use: a configured mirror's if ``mirrored``, else that of the reference.

    A user's login is for the host in the reference and must not be sent to a mirror.
    """
    mirror = None
    if mirrored:
        mirror = settings.registry_mirrors.get(wanted.host) or settings.registry_mirrors.get("*")
    host, _, path = (mirror or wanted.host).strip("/").partition("/")
    full_path = f"{path}/{wanted.repository}" if path else wanted.repository
    return Repository(host, full_path, insecure=host in settings.registry_insecure)


async def _account(
    given: Credentials | None, wanted: Reference, settings: Settings
) -> tuple[str, str] | None:
    if given is None:
        return None
    return await credentials.login(given, wanted, timeout_s=settings.registry_timeout_s)


async def _download(
    client: Skopeo, resolved: ResolvedBase, folder: Path, limit: int, settings: Settings, log: Log
) -> tuple[manifest.Manifest, ImageConfig, Path]:
    started = time.monotonic()
    raw = _checked(await client.raw(f"@{resolved.digest}"), resolved.digest)
    document = manifest.read_manifest(raw)
    sizes = [document.config.size, *(layer.size for layer in document.layers)]
    if sum(sizes) > limit:
        raise BuildError(
            f"base image {resolved.reference}: {_megabytes(sum(sizes))} to download, {_bound(limit)}"
        )
    log(f"Downloading {len(document.layers)} layers, {_megabytes(sum(sizes))}")
    blobs = folder / "image"
    largest = max(*sizes, _LARGEST_DOCUMENT)
    await client.download(resolved.digest, blobs, largest=largest, timeout_s=FETCH_TIMEOUT_S)
    if document.config.size > _LARGEST_DOCUMENT:
        raise SourceFailure(f"the image's config is too large: {_megabytes(document.config.size)}")
    config = manifest.read_config(_blob(blobs, document.config).read_bytes())
    log(f"Downloaded in {time.monotonic() - started:.1f} s")
    return document, config, blobs


async def _unpack(
    document: manifest.Manifest, blobs: Path, destination: Path, limit: int, settings: Settings, log: Log
) -> None:
    started, used = time.monotonic(), 0
    for number, layer in enumerate(document.layers, start=1):
        blob = _blob(blobs, layer)
        try:
            used += await _apply(blob, destination, used, limit, FETCH_TIMEOUT_S)
        except SourceFailure as failure:
            raise BuildError(f"layer {number} of the base image cannot be used: {failure.reason}") from None
        # An image may have the same layer twice.
        if layer.digest not in {later.digest for later in document.layers[number:]}:
            blob.unlink()
    log(f"Unpacked {_megabytes(used)} in {time.monotonic() - started:.1f} s")


async def _apply(blob: Path, destination: Path, used: int, limit: int, timeout_s: int) -> int:
    """Unpack one layer. Returns the bytes that it uses. Decompression runs at the same time in another process."""
    try:
        with blob.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise SourceFailure("the registry does not have it (a foreign layer)") from None
    unpacker = confined.command("thawbox.images.unpack", str(destination), str(limit - used))
    if magic.startswith(_ZSTD):
        decompress = ["zstd", "--decompress", "--stdout", "--quiet"]
    elif magic.startswith(_GZIP):
        decompress = ["gzip", "--decompress", "--stdout"]
    else:
        decompress = ["cat"]
    script = 'set -o pipefail; "${@:3:$1}" < "$2" | "${@:$1+3}"'
    args = ["bash", "-c", script, "unpack", str(len(decompress)), str(blob), *decompress, *unpacker]
    try:
        ended = await processes.run(args, timeout_s=timeout_s, check=False, die_with_parent=True)
    except processes.TimedOut:
        raise SourceFailure(f"not unpacked within {timeout_s} s") from None
    if ended.status == unpack.TOO_BIG:
        raise BuildError(f"the unpacked base image is too big: {_bound(limit)}")
    if ended.status:
        raise SourceFailure(ended.tail[-1] if ended.tail else f"exit status {ended.status}")
    return int(ended.stdout)


def _checked(document: bytes, digest: str | None) -> bytes:
    if digest and _digest(document) != digest:
        raise SourceFailure(f"the registry sent another manifest than {digest}", final=True)
    return document


def _digest(document: bytes) -> str:
    return f"sha256:{hashlib.sha256(document).hexdigest()}"


def _blob(blobs: Path, named: manifest.Descriptor) -> Path:
    return blobs / named.digest.removeprefix("sha256:")


def _limit(destination: Path, settings: Settings) -> int:
    free = os.statvfs(destination)
    return min(settings.max_disk_gb * 1024**3, int(free.f_bavail * free.f_frsize * _SHARE_OF_FREE))


def _bound(limit: int) -> str:
    return f"the limit is {_megabytes(limit)} (max_disk_gb, or the free space of the disk)"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
