"""Uploads that are refused by the real server leave nothing; what the words are is told in tests/unit."""

from __future__ import annotations

import gzip
import hashlib
import io
import socket
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from thawbox.api import upload_urls
from thawbox.sandboxes.tokens import open_signer
from thawbox.settings import load

from .helpers.recipes import recipe
from .server import Server

UNPACKED_MAX = 2_000_000


@pytest.fixture(scope="module")
def uploads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a small bound for unpacked archives; it never builds anything."""
    state = tmp_path_factory.mktemp("uploads")
    with Server(state, upload_unpacked_max_bytes=str(UNPACKED_MAX)) as running:
        yield running


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


SOUND = packed(entry("app/main.py", b"print(1)"))


@dataclass(frozen=True)
class Upload:
    """One upload of a name of its own, and what the server kept before it."""

    server: Server
    name: str
    before: list[str]

    def link(self, size: int) -> str:
        """A URL for an archive of this size."""
        asked = {"files_hash": self.name, "content_length": size}
        answer = self.server.api.post("/v1/templates/files/upload-link", json=asked)
        assert answer.status_code == 200, answer.text
        url: str = answer.json()["upload_url"]
        return url

    def put(self, data: bytes) -> httpx.Response:
        """Send an archive as a client would."""
        return httpx.put(self.link(len(data)), content=data)

    def build(self, client: httpx.Client | None = None) -> httpx.Response:
        """Ask for a build that copies what was uploaded."""
        copy = {"type": "COPY", "args": ["app/", "/app/"], "filesHash": self.name}
        return (client or self.server.api).post("/v1/templates/build", json=recipe("never-built", copy))

    def assert_nothing_came(self) -> None:
        """No file is left, and no build can use one."""
        assert kept(self.server) == self.before
        refused = self.build()
        assert refused.status_code == 400
        assert "files for COPY step not uploaded" in refused.json()["message"]


@pytest.fixture
def upload(uploads: Server, request: pytest.FixtureRequest) -> Upload:
    name = hashlib.sha256(request.node.name.encode()).hexdigest()
    return Upload(uploads, name, kept(uploads))


def kept(server: Server) -> list[str]:
    return sorted(path.name for path in (server.state / "uploads").iterdir())


def assert_refused(answer: httpx.Response, status: int, word: str) -> None:
    assert answer.status_code == status, answer.text
    assert word in answer.json()["message"], answer.text
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "dots inside": (packed(entry("app/../../../etc/cron.d/x", b"x")), 400, "app/../../../etc/cron.d/x"),
    "absolute name": (packed(entry("/etc/cron.d/x", b"x")), 400, "/etc/cron.d/x"),
    "absolute symlink": (packed(entry("app/x", type=tarfile.SYMTYPE, linkname="/etc/shadow")), 400, "app/x"),
    "symlink out": (packed(entry("app/x", type=tarfile.SYMTYPE, linkname="../../x")), 400, "app/x"),
    "below a symlink": (
        packed(entry("app/d", type=tarfile.SYMTYPE, linkname="e"), entry("app/d/x", b"x")),
        400,
        "app/d/x",
    ),
    "absolute hard link": (packed(entry("x", type=tarfile.LNKTYPE, linkname="/etc/shadow")), 400, "absolute"),
    "hard link out": (packed(entry("x", type=tarfile.LNKTYPE, linkname="../state")), 400, "../state"),
    "character device": (packed(entry("app/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), 400, "device"),
    "block device": (packed(entry("app/disk", type=tarfile.BLKTYPE, devmajor=254)), 400, "device"),
    "pipe": (packed(entry("app/pipe", type=tarfile.FIFOTYPE)), 400, "pipe"),
    "zeros": (packed(entry("zeros", bytes(8 * UNPACKED_MAX))), 413, str(UNPACKED_MAX)),
    "zeros behind the end": (gzip.compress(gzip.decompress(SOUND) + bytes(8 * UNPACKED_MAX)), 413, str(UNPACKED_MAX)),
    "truncated": (SOUND[:-9], 400, "truncated"),
    "not gzip": (gzip.decompress(SOUND), 400, "gzip"),
    "gzip, but no tar": (gzip.compress(b"hello" * 1000), 400, "tar"),
    "empty": (gzip.compress(b"")[:1], 400, "gzip"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive(upload: Upload, case: str) -> None:
    data, status, word = HOSTILE[case]
    assert_refused(upload.put(data), status, word)
    upload.assert_nothing_came()


def test_a_sound_archive_is_kept_so_the_others_were_refused_for_what_is_in_them(upload: Upload) -> None:
    data = packed(entry("app/main.py", b"x"), entry("app/same", type=tarfile.LNKTYPE, linkname="app/main.py"))
    assert upload.put(data).status_code == 200
    (new,) = set(kept(upload.server)) - set(upload.before)
    assert (upload.server.state / "uploads" / new).read_bytes() == data
    folder = upload.server.state / "uploads"
    assert folder.stat().st_mode & 0o077 == 0  # private to root


def test_names_that_climb_are_for_absolute_sources_only(upload: Upload) -> None:
    assert upload.put(packed(entry("../../app/main.py", b"x"))).status_code == 200
    assert_refused(upload.build(), 400, "leaves the build context")


@pytest.mark.parametrize("more", [-1, 1, 100_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_other_length_than_announced(upload: Upload, more: int, chunked: bool) -> None:
    content: bytes | Iterable[bytes] = iter([SOUND]) if chunked else SOUND
    assert_refused(httpx.put(upload.link(len(SOUND) + more), content=content), 400, "announced")
    upload.assert_nothing_came()


def test_connection_that_breaks_off(upload: Upload) -> None:
    url = urlsplit(upload.link(len(SOUND)))
    with socket.create_connection(("127.0.0.1", upload.server.port)) as connection:
        head = f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(SOUND)}\r\n\r\n"
        connection.sendall(head.encode() + SOUND[:20])
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(30)
        while connection.recv(4096):
            pass  # until the server has ended with it
    upload.assert_nothing_came()


def test_forged_signatures(upload: Upload) -> None:
    url = httpx.URL(upload.link(len(SOUND)))
    other = httpx.URL(upload.link(len(SOUND) + 1))
    forged = (
        url.copy_merge_params({"signature": "0" * 64}),
        url.copy_merge_params({"signature": ""}),
        url.copy_merge_params({"signature": "é"}),
        url.copy_merge_params({"size": str(len(SOUND) + 1)}),
        url.copy_merge_params({"expires": "99999999999"}),
        url.copy_merge_params({"signature": other.params["signature"]}),
        url.copy_with(path="/v1/uploads/file_" + "0" * 20),
        url.copy_with(raw_path=b"/v1/uploads/..%2F..%2Fthawbox.db?" + url.query),
        url.copy_remove_param("signature"),
    )
    for attempt in forged:
        answer = httpx.put(attempt, content=SOUND)
        assert 400 <= answer.status_code < 500, (attempt, answer.text)
    upload.assert_nothing_came()
    assert httpx.put(url, content=SOUND).status_code == 200


def test_expired_signature(upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = open_signer(load(state=upload.server.state))  # the server's own key
    file_id = urlsplit(upload.link(len(SOUND))).path.rpartition("/")[2]

    def put() -> httpx.Response:
        path, _ = upload_urls.sign(signer, file_id, len(SOUND))
        return httpx.put(upload.server.url + path, content=SOUND)

    with monkeypatch.context() as patch:
        patch.setattr(upload_urls, "LIFETIME_S", -1)
        assert_refused(put(), 403, "expired")
    upload.assert_nothing_came()
    assert put().status_code == 200  # so only the time was wrong


def test_single_file_with_another_digest(upload: Upload) -> None:
    asked = {"files": [{"path": "a.txt", "size": 3, "hash": "sha256:" + "0" * 64}]}
    links = upload.server.api.post("/v1/templates/files/upload-link", json=asked).json()["upload_urls"]
    assert_refused(httpx.put(links[0]["upload_url"], content=b"abc"), 400, "sha256")
    upload.assert_nothing_came()


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", ".", "a\x00b", ""])
def test_single_file_name_that_leads_out(upload: Upload, path: str) -> None:
    asked = {"files": [{"path": path, "size": 3}]}
    answer = upload.server.api.post("/v1/templates/files/upload-link", json=asked)
    assert answer.status_code == 400, answer.text
    assert kept(upload.server) == upload.before


def test_uploads_of_others_do_not_exist(upload: Upload) -> None:
    assert upload.put(SOUND).status_code == 200
    with upload.server.client(upload.server.new_key("others")) as other:
        assert_refused(upload.build(other), 400, "files for COPY step not uploaded")
