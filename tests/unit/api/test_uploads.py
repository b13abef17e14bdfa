from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from tests.support.control_plane import World, make_world
from thawbox.api import upload_urls
from thawbox.settings import load
from thawbox.store import uploads

HASH = "ab" * 32


def archive(*names: str) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name in names or ("app/main.py",):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"hi"))
    return raw.getvalue()


async def link(world: World, size: int) -> str:
    answer = await world.api.post(
        "/v1/templates/files/upload-link", json={"files_hash": HASH, "content_length": size}
    )
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["upload_url"]
    return url


def kept(world: World) -> list[Path]:
    folder = world.context.settings.state / "uploads"
    return sorted(folder.iterdir()) if folder.exists() else []


def changed(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | changes)))


async def stored(world: World, name: str) -> uploads.UploadRow:
    async with world.context.database.read() as c:
        row = await uploads.get(c, world.organization_id, name)
    assert row is not None
    return row


async def test_link_has_exactly_the_keys_that_clients_take_and_is_never_present(world: World) -> None:
    for _ in range(2):
        answer = await world.api.post(
            "/v1/templates/files/upload-link", json={"files_hash": HASH, "content_length": 5}
        )
        body = answer.json()
        assert set(body) == {"present", "upload_url", "expires_at", "request_id"}
        assert body["present"] is False
        assert body["upload_url"].startswith("http://box.example:7070/v1/uploads/")
        data = archive()
        assert (await world.nobody.put(await link(world, len(data)), content=data)).status_code == 200


async def test_archive_arrives_without_a_key_and_the_latest_wins(world: World) -> None:
    for data in (archive("a"), archive("a", "b")):
        answer = await world.nobody.put(
            await link(world, len(data)), content=data, headers={"content-type": "application/gzip"}
        )
        assert answer.status_code == 200, answer.text
        row = await stored(world, HASH)
        assert row.blob is not None
        assert row.size == len(data)
        assert (world.context.settings.state / "uploads" / row.blob).read_bytes() == data
    assert not [path for path in kept(world) if path.suffix == ".part"]


@pytest.mark.parametrize("parameter", ["size", "expires", "signature"])
async def test_changed_url_is_refused(world: World, parameter: str) -> None:
    data = archive()
    url = await link(world, len(data))
    new = {"size": str(len(data) + 1), "expires": "99999999999", "signature": "0" * 64}[parameter]
    answer = await world.nobody.put(changed(url, **{parameter: new}), content=data)
    assert answer.status_code == 403
    assert kept(world) == []


async def test_url_of_one_file_does_not_open_another(world: World) -> None:
    data = archive()
    url = await link(world, len(data))
    other = await world.stranger.post(
        "/v1/templates/files/upload-link", json={"files_hash": HASH, "content_length": len(data)}
    )
    foreign = urlsplit(other.json()["upload_url"]).path
    answer = await world.nobody.put(urlunsplit(urlsplit(url)._replace(path=foreign)), content=data)
    assert answer.status_code == 403


async def test_expired_url_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_urls, "LIFETIME_S", -1)
    data = archive()
    answer = await world.nobody.put(await link(world, len(data)), content=data)
    assert (answer.status_code, "expired" in answer.json()["message"]) == (403, True)
    assert kept(world) == []


@pytest.mark.parametrize("difference", [-1, 1])
async def test_wrong_length_is_refused_and_leaves_nothing(world: World, difference: int) -> None:
    data = archive()
    answer = await world.nobody.put(await link(world, len(data) + difference), content=data)
    assert answer.status_code == 400
    assert kept(world) == []
    assert (await stored(world, HASH)).blob is None


async def test_wrong_length_is_noticed_without_content_length_too(world: World) -> None:
    data = archive()

    async def chunks() -> object:
        yield data

    for difference in (-1, 1):
        url = await link(world, len(data) + difference)
        answer = await world.nobody.put(url, content=chunks())  # type: ignore[arg-type]
        assert answer.status_code == 400
        assert kept(world) == []


@pytest.mark.parametrize(
    "data",
    [
        b"not gzip at all",
        gzip.compress(b"not a tar"),
        archive()[:-9],
        archive("/etc/passwd"),
        archive("a/../../../b"),
    ],
)
async def test_archive_that_is_unsound_is_refused_and_leaves_nothing(world: World, data: bytes) -> None:
    answer = await world.nobody.put(await link(world, len(data)), content=data)
    assert answer.status_code == 400, answer.text
    assert kept(world) == []
    assert (await stored(world, HASH)).blob is None


async def test_bad_upload_keeps_the_good_one_before(world: World) -> None:
    good = archive()
    await world.nobody.put(await link(world, len(good)), content=good)
    before = await stored(world, HASH)
    await world.nobody.put(await link(world, 3), content=b"bad")
    assert await stored(world, HASH) == before
    assert [path.name for path in kept(world)] == [before.blob]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files_hash": HASH},
        {"content_length": 5},
        {"files_hash": HASH, "content_length": 0},
        {"files_hash": HASH, "content_length": -1},
        {"files_hash": HASH, "content_length": "5"},
        {"files_hash": HASH, "content_length": True},
        {"files_hash": "zz" * 32, "content_length": 5},
        {"files_hash": HASH + "\n", "content_length": 5},
        {"files_hash": "../../x", "content_length": 5},
        {"files": []},
        {"files": None},
        {"files": [{"path": "../x", "size": 1}]},
        {"files": [{"path": "/x", "size": 1}]},
        {"files": [{"path": "a/../../x", "size": 1}]},
        {"files": [{"path": "a\x00", "size": 1}]},
        {"files": [{"path": "./", "size": 1}]},
        {"files": [{"path": "x", "size": -1}]},
        {"files": [{"path": "x"}]},
    ],
)
async def test_bad_request_for_a_link_is_400(world: World, body: dict[str, object]) -> None:
    answer = await world.api.post("/v1/templates/files/upload-link", json=body)
    assert answer.status_code == 400, answer.text


async def test_more_than_the_configured_size_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    world = await make_world(load(state=tmp_path, upload_max_bytes=100))
    answer = await world.api.post(
        "/v1/templates/files/upload-link", json={"files_hash": HASH, "content_length": 101}
    )
    assert (answer.status_code, answer.json()["error"]) == (413, "Too large")
    await world.context.database.close()


async def test_single_files_are_kept_by_path(world: World) -> None:
    data = b"print(1)\n"
    wanted = {
        "path": "./src/file1.txt",
        "size": len(data),
        "hash": "sha256:" + hashlib.sha256(data).hexdigest(),
    }
    answer = await world.api.post("/v1/templates/files/upload-link", json={"files": [wanted]})
    (one,) = answer.json()["upload_urls"]
    assert set(one) == {"path", "upload_url", "file_id"}
    wrong = await world.nobody.put(one["upload_url"], content=b"print(2)\n")
    assert (wrong.status_code, kept(world)) == (400, [])
    assert (await world.nobody.put(one["upload_url"], content=data)).status_code == 200
    row = await stored(world, "src/file1.txt")
    assert row.file_id == one["file_id"]
    async with world.context.database.read() as c:
        assert await uploads.find(c, world.organization_id, one["file_id"]) == row
        assert await uploads.find(c, world.organization_id + 1, one["file_id"]) is None
