from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.gateway import Gate
from thawbox import guest
from thawbox.gateway import target
from thawbox.gateway.files import transfers
from thawbox.gateway.files.multipart import UploadForm
from thawbox.gateway.files.transfers import content_disposition
from thawbox.guest import GuestError


async def download(gate: Gate, path: object, **headers: str) -> httpx.Response:
    return await gate.client.get("/files/download", params={"path": str(path)}, headers=headers)


async def upload(gate: Gate, data: bytes, path: object | None, name: str = "a.bin") -> httpx.Response:
    fields = {} if path is None else {"path": str(path)}
    return await gate.client.post("/files/upload", data=fields, files={"file": (name, data)})


def form(*parts: tuple[str, bytes], end: bytes = b"--X--\r\n") -> dict[str, Any]:
    """A form spelled out: headers and content of each part."""
    body = b"".join(b"--X\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return {"content": body + end, "headers": {"Content-Type": "multipart/form-data; boundary=X"}}


def part(name: str, filename: str | None = None) -> str:
    extra = "" if filename is None else f'; filename="{filename}"'
    return f'Content-Disposition: form-data; name="{name}"{extra}'


async def test_bytes_come_back_as_they_were_sent(gate: Gate) -> None:
    data = os.urandom(3_000_001)
    path = gate.folder / "deep" / "er" / "x.bin"
    answer = await upload(gate, data, path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["success"], body["path"], body["size"]) == (True, str(path), len(data))
    assert path.read_bytes() == data
    got = await download(gate, path)
    assert got.content == data
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Content-Disposition"] == 'attachment; filename="x.bin"'
    assert got.headers["Content-Length"] == str(len(data))


async def test_path_may_come_after_the_file(gate: Gate) -> None:
    data = os.urandom(1_000_000)
    path = gate.folder / "late.bin"
    answer = await gate.client.post(
        "/files/upload", **form((part("file", "x"), data), (part("path"), str(path).encode()))
    )
    assert (answer.status_code, answer.json()["path"]) == (200, str(path)), answer.text
    assert path.read_bytes() == data
    assert sorted(os.listdir(gate.folder)) == ["late.bin"]


async def test_late_path_on_another_disk(gate: Gate) -> None:
    path = Path("/dev/shm") / f"thawbox-test-{os.getpid()}"
    assert path.parent.stat().st_dev != gate.folder.stat().st_dev
    try:
        answer = await gate.client.post(
            "/files/upload", **form((part("file", "x"), b"data"), (part("path"), str(path).encode()))
        )
        assert answer.status_code == 200, answer.text
        assert path.read_bytes() == b"data"
    finally:
        path.unlink(missing_ok=True)
    assert os.listdir(gate.folder) == []


@pytest.mark.parametrize("slash", ["", "/"])
async def test_folder_gets_the_file_under_its_own_name(gate: Gate, slash: str) -> None:
    answer = await upload(gate, b"x", f"{gate.folder}{slash}", name="../ü b.txt")
    assert answer.json()["path"] == f"{gate.folder}/ü b.txt"
    assert (gate.folder / "ü b.txt").read_bytes() == b"x"


async def test_folder_that_does_not_exist_is_made(gate: Gate) -> None:
    assert (await upload(gate, b"x", f"{gate.folder}/new/")).json()["path"] == f"{gate.folder}/new/a.bin"


async def test_without_a_path_it_goes_to_the_workspace(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "WORKSPACE", str(gate.folder))
    assert (await upload(gate, b"x", None)).json()["path"] == f"{gate.folder}/a.bin"
    answer = await gate.client.post("/files/upload", **form((part("file"), b"x")))
    assert answer.json()["path"] == f"{gate.folder}/upload"


async def test_empty_file(gate: Gate) -> None:
    assert (await upload(gate, b"", gate.folder / "empty")).json()["size"] == 0
    got = await download(gate, gate.folder / "empty")
    assert (got.status_code, got.content) == (200, b"")


async def gone(gate: Gate) -> None:
    """Wait until the agent has removed what it had begun, which it does when it sees the connection's end."""
    async with asyncio.timeout(10):
        while os.listdir(gate.folder):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "broken",
    [
        form((part("file", "x"), b"data"), end=b""),
        form((part("file", "x"), b"data"), end=b"--X"),
        form((part("path"), b"/tmp/x")),
        form(),
        form((part("file", "x"), b"data"), (part("file", "y"), b"data")),
        form((part("path"), b"x" * 20_000), (part("file", "x"), b"data")),
        form(*[(part(f"f{number}"), b"") for number in range(200)], (part("file"), b"x")),
        form(("Content-Disposition", b"data")),
        form((part("file", "x") + "\r\nX: " + "y" * 10_000, b"data")),
        {"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=X"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=" + "x" * 10_000}},
        {"content": b"x", "headers": {"Content-Type": "application/json"}},
        {"content": b"x"},
    ],
)
async def test_broken_forms_are_400_and_leave_nothing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, broken: dict[str, Any]
) -> None:
    monkeypatch.setattr(target, "WORKSPACE", str(gate.folder))
    answer = await gate.client.post("/files/upload", **broken)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST"), answer.text
    await gone(gate)


async def test_upload_onto_what_is_no_file_is_refused(gate: Gate) -> None:
    os.mkfifo(gate.folder / "fifo")
    for late in (False, True):
        parts = [(part("path"), f"{gate.folder}/fifo".encode()), (part("file", "x"), b"data" * 100_000)]
        answer = await gate.client.post("/files/upload", **form(*(reversed(parts) if late else parts)))
        body = answer.json()
        assert (answer.status_code, body["code"], body["path"]) == (
            400,
            "INVALID_PATH",
            f"{gate.folder}/fifo",
        )
    assert os.listdir(gate.folder) == ["fifo"]


async def test_full_disk_is_said(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise GuestError("ENOSPC", "/x: no space left on device")

    monkeypatch.setattr(guest, "receive_file", full)
    monkeypatch.setattr(guest, "write_file", full)
    for answer in (
        await upload(gate, b"x", "/x"),
        await gate.client.post("/files/write", json={"path": "/x", "content": "y"}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (413, "DISK_FULL")
        assert "disk is full" in answer.json()["message"]


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=2-4", 206, b"cde", "bytes 2-4/10"),
        ("bytes=7-", 206, b"hij", "bytes 7-9/10"),
        ("bytes=-3", 206, b"hij", "bytes 7-9/10"),
        ("bytes=-30", 206, b"abcdefghij", "bytes 0-9/10"),
        ("bytes=8-100", 206, b"ij", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, b"abcdefghij", None),
        ("bytes=x", 200, b"abcdefghij", None),
        ("bytes=10-", 416, None, None),
        ("bytes=5-2", 416, None, None),
        ("bytes=-0", 416, None, None),
    ],
)
async def test_ranges(gate: Gate, asked: str, status: int, content: bytes | None, told: str | None) -> None:
    (gate.folder / "f").write_bytes(b"abcdefghij")
    answer = await download(gate, gate.folder / "f", Range=asked)
    assert answer.status_code == status
    if content is not None:
        assert answer.content == content
        assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers.get("Content-Range") == told


async def test_head_tells_the_size_and_sends_nothing(gate: Gate) -> None:
    (gate.folder / "f").write_bytes(b"abc")
    answer = await gate.client.head("/files/download", params={"path": str(gate.folder / "f")})
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, "3", b"")
    missing = await gate.client.head("/files/download", params={"path": str(gate.folder / "none")})
    assert missing.status_code == 404
    folder = await gate.client.head("/files/download", params={"path": str(gate.folder)})
    assert folder.status_code == 400


async def test_what_cannot_be_downloaded(gate: Gate) -> None:
    missing = await download(gate, gate.folder / "none")
    assert (missing.status_code, missing.json()["code"]) == (404, "FILE_NOT_FOUND")
    folder = await download(gate, gate.folder)
    assert (folder.status_code, folder.json()["code"]) == (400, "INVALID_PATH")
    assert (await download(gate, "/dev/zero")).status_code == 400


async def test_file_without_a_size_is_sent_to_its_end(gate: Gate) -> None:
    answer = await download(gate, "/proc/version")
    assert b"Linux" in answer.content
    assert "Content-Length" not in answer.headers


async def test_holes_are_zeros(gate: Gate) -> None:
    with (gate.folder / "sparse").open("wb") as file:
        file.truncate(5_000_000)
        file.seek(4_000_000)
        file.write(b"x")
    got = await download(gate, gate.folder / "sparse")
    assert got.content == (gate.folder / "sparse").read_bytes()


async def test_growing_file_is_sent_as_long_as_it_was(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    path = gate.folder / "grows"
    path.write_bytes(b"x" * 1000)

    def grow(name: str) -> str:
        with path.open("ab") as file:
            file.write(b"y" * 5_000_000)
        return content_disposition(name)

    monkeypatch.setattr(transfers, "content_disposition", grow)
    assert (await download(gate, path)).content == b"x" * 1000


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("plain.txt", 'attachment; filename="plain.txt"'),
        ('a"b\\.txt', "attachment; filename=\"a_b_.txt\"; filename*=UTF-8''a%22b%5C.txt"),
        ("ü\n.txt", "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%BC%0A.txt"),
        ("\udcff", "attachment; filename=\"_\"; filename*=UTF-8''%FF"),
    ],
)
def test_names_in_content_disposition(name: str, header: str) -> None:
    assert content_disposition(name) == header


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\x00" not in name))
def test_every_name_makes_a_header(name: bytes) -> None:
    header = content_disposition(os.fsdecode(name))
    assert all(" " <= char <= "~" for char in header)
    exact = re.search(r"filename\*=UTF-8''(.*)", header)
    plain = re.search(r'filename="([^"]*)"', header)
    assert plain is not None
    assert (unquote_to_bytes(exact[1]) if exact else plain[1].encode()) == name


@given(
    st.lists(st.tuples(st.sampled_from(["path", "x", "file"]), st.binary(max_size=200)), max_size=5),
    st.integers(1, 50),
)
async def test_form_is_the_same_in_whatever_pieces_it_comes(
    fields: list[tuple[str, bytes]], size: int
) -> None:
    if any(b"--X" in data for _, data in fields) or [name for name, _ in fields].count("file") != 1:
        return
    whole = form(*((part(name), data) for name, data in fields))["content"]

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(whole), size):
            yield whole[at : at + size]

    read = UploadForm("multipart/form-data; boundary=X", pieces())
    await read.until_file()
    data = b"".join([chunk async for chunk in read.content()])
    assert data == dict(fields)["file"]
    expected = {name: os.fsdecode(data) for name, data in fields if name != "file"}
    assert read.fields == expected


async def test_form_is_not_read_ahead(gate: Gate) -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        yield form((part("file", "x"), b""), end=b"")["content"][:-2]
        for _ in range(1000):
            taken += 1
            yield b"x" * 65536
        yield b"\r\n--X--\r\n"

    read = UploadForm("multipart/form-data; boundary=X", body())
    await read.until_file()
    content = read.content()
    for _ in range(10):
        await anext(content)
    assert taken <= 11


NAMES = [
    b"with space",
    "Grüße €.txt".encode(),
    b"new\nline",
    b"x" * 255,
    b"no utf-8 \xff\xfe",
    b"%41+&=#?",
    b"-rf",
    b"\x01\x7f",
]


@pytest.mark.parametrize("name", NAMES)
async def test_odd_names_work_everywhere(gate: Gate, name: bytes) -> None:
    path = os.fsencode(gate.folder) + b"/" + name
    text = os.fsdecode(path)
    query = "path=" + quote(path)
    sent = form((part("path"), b"PATH"), (part("file", "x"), b"one"))
    sent["content"] = sent["content"].replace(b"PATH", path)
    uploaded = await gate.client.post("/files/upload", **sent)
    assert (uploaded.status_code, uploaded.json()["path"]) == (200, text), uploaded.text
    assert os.listdir(os.fsencode(gate.folder)) == [name]
    assert (await gate.client.get(f"/files/download?{query}")).content == b"one"
    listed = await gate.client.get("/files/list", params={"path": str(gate.folder)})
    assert [item["path"] for item in listed.json()["files"]] == [text]
    assert (await gate.client.get(f"/files/exists?{query}")).json()["exists"] is True
    as_json = {"Content-Type": "application/json"}
    body = json.dumps({"path": text, "content": "two"})
    assert (await gate.client.post("/files/write", content=body, headers=as_json)).json()["path"] == text
    assert (await gate.client.get(f"/files/read?{query}")).json()["content"] == "two"
    assert (await gate.client.delete(f"/files/remove?{query}")).status_code == 200
    assert os.listdir(gate.folder) == []
    gone = await gate.client.get(f"/files/read?{query}")
    assert (gone.status_code, gone.json()["code"]) == (404, "FILE_NOT_FOUND")
    made = await gate.client.post("/files/mkdir", content=json.dumps({"path": text}), headers=as_json)
    assert made.status_code == 200, made.text
    assert os.path.isdir(path)
