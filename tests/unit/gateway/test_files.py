from __future__ import annotations

import base64
from typing import Any

import pytest

from thawbox.gateway import files

from .conftest import Gate


async def read(gate: Gate, path: object) -> dict[str, Any]:
    answer = await gate.client.get("/files/read", params={"path": str(path)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_text_comes_back_as_it_was_written(gate: Gate) -> None:
    path = gate.folder / "new" / "deep" / "a.txt"
    text = "Grüße\r\n\x00end"
    answer = await gate.client.post("/files/write", json={"path": str(path), "content": text, "mode": "0640"})
    body = answer.json()
    assert answer.status_code == 200, answer.text
    assert (body["success"], body["path"], body["size"]) == (True, str(path), len(text.encode()))
    assert path.read_bytes() == text.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    found = await read(gate, path)
    assert (found["content"], found["size"]) == (text, len(text.encode()))
    assert "encoding" not in found


async def test_bytes_travel_as_base64(gate: Gate) -> None:
    path = gate.folder / "b.bin"
    data = bytes(range(256))
    body = {"path": str(path), "content": base64.b64encode(data).decode(), "encoding": "base64"}
    assert (await gate.client.post("/files/write", json=body)).status_code == 200
    assert path.read_bytes() == data
    found = await read(gate, path)
    assert (base64.b64decode(found["content"]), found["encoding"], found["size"]) == (data, "base64", 256)


async def test_existing_file_is_replaced_unless_told_not_to(gate: Gate) -> None:
    path = gate.folder / "x"
    path.write_text("old")
    refused = await gate.client.post(
        "/files/write", json={"path": str(path), "content": "new", "overwrite": False}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "FILE_ALREADY_EXISTS")
    assert path.read_text() == "old"
    assert (await gate.client.post("/files/write", json={"path": str(path), "content": "new"})).is_success
    assert path.read_text() == "new"


async def test_missing_file_and_folder_have_the_clients_codes(gate: Gate) -> None:
    missing = await gate.client.get("/files/read", params={"path": "/no/such"})
    assert (missing.status_code, missing.json()["code"]) == (404, "FILE_NOT_FOUND")
    assert missing.json()["path"] == "/no/such"
    assert missing.json()["timestamp"].endswith("Z")
    folder = await gate.client.get("/files/read", params={"path": str(gate.folder)})
    assert (folder.status_code, folder.json()["code"]) == (400, "INVALID_PATH")
    onto = await gate.client.post("/files/write", json={"path": str(gate.folder), "content": ""})
    assert (onto.status_code, onto.json()["code"]) == (400, "INVALID_PATH")


async def test_relative_paths_count_from_the_workspace(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "WORKSPACE", str(gate.folder))
    (gate.folder / "r.txt").write_text("here")
    found = await read(gate, "r.txt")
    assert (found["content"], found["path"]) == ("here", str(gate.folder / "r.txt"))


async def test_file_that_is_too_large_for_an_answer_is_refused(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "READ_MAX", 10)
    (gate.folder / "big").write_bytes(b"x" * 11)
    answer = await gate.client.get("/files/read", params={"path": str(gate.folder / "big")})
    assert answer.status_code == 413
    endless = await gate.client.get("/files/read", params={"path": "/dev/zero"})
    assert endless.status_code in (400, 413)


@pytest.mark.parametrize("path", ["", "\x00", "/a\x00b", "/" + "x" * 5000, "/" + "y" * 300])
async def test_impossible_paths_are_400(gate: Gate, path: str) -> None:
    answers = [
        await gate.client.get("/files/read", params={"path": path}),
        await gate.client.post("/files/write", json={"path": path, "content": ""}),
    ]
    assert [answer.status_code for answer in answers] == [400, 400]


@pytest.mark.parametrize(
    "body",
    [
        {"content": "x"},
        {"path": "/tmp/x"},
        {"path": "/tmp/x", "content": 1},
        {"path": "/tmp/x", "content": "x", "mode": "9"},
        {"path": "/tmp/x", "content": "x", "mode": "07777777"},
        {"path": "/tmp/x", "content": "x", "mode": 420},
        {"path": "/tmp/x", "content": "!", "encoding": "base64"},
        {"path": "/tmp/x", "content": "x", "encoding": "rot13"},
        {"path": "/tmp/x", "content": "x", "overwrite": "no"},
    ],
)
async def test_bad_fields_are_400(gate: Gate, body: dict[str, Any]) -> None:
    answer = await gate.client.post("/files/write", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


async def test_path_must_be_given(gate: Gate) -> None:
    answer = await gate.client.get("/files/read")
    assert (answer.status_code, answer.json()["message"]) == (400, "Field 'path' is missing.")
