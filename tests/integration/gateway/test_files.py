from __future__ import annotations

import base64
import contextlib
import os
import pwd
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gate
from thawbox.gateway import target
from thawbox.gateway.files import content


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
    monkeypatch.setattr(target, "WORKSPACE", str(gate.folder))
    (gate.folder / "r.txt").write_text("here")
    found = await read(gate, "r.txt")
    assert (found["content"], found["path"]) == ("here", str(gate.folder / "r.txt"))


async def test_file_that_is_too_large_for_an_answer_is_refused(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "READ_MAX", 10)
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


async def listed(gate: Gate, path: object) -> dict[str, Any]:
    answer = await gate.client.get("/files/list", params={"path": str(path)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_list_has_every_fact_under_all_names(gate: Gate) -> None:
    (gate.folder / "b").mkdir(mode=0o750)
    (gate.folder / "a.txt").write_text("hello")
    (gate.folder / "a.txt").chmod(0o640)
    os.utime(gate.folder / "a.txt", (0, 1.5))
    (gate.folder / "to-b").symlink_to("b")
    (gate.folder / "nowhere").symlink_to("none")
    body = await listed(gate, f"{gate.folder}/")
    assert body["count"] == 4
    by_name = {item["name"]: item for item in body["files"]}
    assert list(by_name) == ["a.txt", "b", "nowhere", "to-b"]
    assert by_name["a.txt"] == {
        "name": "a.txt",
        "path": f"{gate.folder}/a.txt",
        "size": 5,
        "is_directory": False,
        "is_dir": False,
        "modified_time": "1970-01-01T00:00:01.500Z",
        "modified": "1970-01-01T00:00:01.500Z",
        "permissions": "-rw-r-----",
        "type": "file",
    }
    assert (by_name["b"]["is_dir"], by_name["b"]["permissions"]) == (True, "drwxr-x---")
    assert (by_name["to-b"]["is_directory"], by_name["to-b"]["target"]) == (True, "b")
    assert (by_name["nowhere"]["is_directory"], by_name["nowhere"]["type"]) == (False, "symlink")


async def test_list_of_the_root_and_of_the_workspace(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "/etc" in [item["path"] for item in (await listed(gate, "/"))["files"]]
    monkeypatch.setattr(target, "WORKSPACE", str(gate.folder))
    (gate.folder / "x").touch()
    answer = await gate.client.get("/files/list")
    assert [item["name"] for item in answer.json()["files"]] == ["x"]


async def test_list_of_what_is_no_folder(gate: Gate) -> None:
    answer = await gate.client.get("/files/list", params={"path": "/no/such"})
    assert (answer.status_code, answer.json()["code"]) == (404, "DIRECTORY_NOT_FOUND")
    assert (await gate.client.get("/files/list", params={"path": "/etc/passwd"})).status_code == 400


async def test_files_from_the_year_0_or_30000_have_dates_that_clients_can_read(gate: Gate) -> None:
    for name, seconds in (("old", -1e10), ("new", 9e11)):
        (gate.folder / name).touch()
        with contextlib.suppress(OSError):  # where the disk can hold such a date
            os.utime(gate.folder / name, (seconds, seconds))
    for item in (await listed(gate, gate.folder))["files"]:
        datetime.fromisoformat(item["modified"])


async def exists(gate: Gate, path: object) -> tuple[bool, bool]:
    answer = await gate.client.get("/files/exists", params={"path": str(path)})
    assert answer.status_code == 200, answer.text
    return answer.json()["exists"], answer.json()["is_directory"]


async def test_exists(gate: Gate) -> None:
    (gate.folder / "f").touch()
    (gate.folder / "nowhere").symlink_to("none")
    assert await exists(gate, gate.folder / "f") == (True, False)
    assert await exists(gate, gate.folder) == (True, True)
    for path in ("/no/such", gate.folder / "nowhere", gate.folder / "f" / "below", "/" + "y" * 300):
        assert await exists(gate, path) == (False, False)


async def mkdir(gate: Gate, path: object) -> httpx.Response:
    return await gate.client.post("/files/mkdir", json={"path": str(path)})


async def test_mkdir_makes_all_and_is_content_with_what_is_there(gate: Gate) -> None:
    path = gate.folder / "a" / "b"
    for _ in range(2):
        answer = await mkdir(gate, path)
        assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text
        assert path.is_dir()


async def test_mkdir_where_a_file_is(gate: Gate) -> None:
    (gate.folder / "f").touch()
    for path in ("f", "f/below"):
        answer = await mkdir(gate, gate.folder / path)
        assert answer.status_code in (400, 409)
        assert answer.json()["path"] == f"{gate.folder}/{path}"


async def test_remove(gate: Gate) -> None:
    (gate.folder / "d" / "e").mkdir(parents=True)
    (gate.folder / "d" / "f").touch()
    (gate.folder / "kept").mkdir()
    (gate.folder / "d" / "link").symlink_to(gate.folder / "kept")
    for status in (200, 404):
        answer = await gate.client.delete("/files/remove", params={"path": str(gate.folder / "d")})
        assert answer.status_code == status
    assert answer.json()["code"] == "FILE_NOT_FOUND"
    assert os.listdir(gate.folder) == ["kept"]
    root = await gate.client.delete("/files/remove", params={"path": "/"})
    assert (root.status_code, root.json()["code"]) == (400, "INVALID_PATH")


async def test_only_the_folders_that_the_operator_opens(gate: Gate) -> None:
    settings = gate.context.settings.model_copy(update={"file_roots": (f"{gate.folder}/",)})
    object.__setattr__(gate.context, "settings", settings)
    (gate.folder / "f").write_text("x")
    assert (await read(gate, gate.folder / "f"))["content"] == "x"
    assert (await read(gate, gate.folder / "d" / ".." / "f"))["path"] == str(gate.folder / "f")
    for path in ("/etc/passwd", f"{gate.folder}/../x", f"{gate.folder}x", "/", f"//{gate.folder}/../../etc"):
        for answer in (
            await gate.client.get("/files/read", params={"path": path}),
            await gate.client.get("/files/list", params={"path": path}),
            await gate.client.get("/files/exists", params={"path": path}),
            await gate.client.get("/files/download", params={"path": path}),
            await gate.client.delete("/files/remove", params={"path": path}),
            await gate.client.post("/files/write", json={"path": path, "content": ""}),
            await mkdir(gate, path),
            await gate.client.post("/files/upload", data={"path": path}, files={"file": b"x"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "PATH_NOT_ALLOWED")
    assert (gate.folder / "f").exists()


async def test_half_of_a_surrogate_pair_is_no_path_and_no_content(gate: Gate) -> None:
    headers = {"Content-Type": "application/json"}
    for body in ('{"path": "/tmp/\\ud800", "content": ""}', '{"path": "/tmp/x", "content": "\\ud800"}'):
        answer = await gate.client.post("/files/write", content=body, headers=headers)
        assert answer.status_code == 400, answer.text


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
async def test_files_of_the_templates_user(gate: Gate) -> None:
    gate.sandboxes.user = "daemon"
    await gate.client.post("/files/write", json={"path": f"{gate.folder}/d/f", "content": "x"})
    await mkdir(gate, gate.folder / "m" / "n")
    await gate.client.post("/files/upload", data={"path": f"{gate.folder}/u"}, files={"file": b"x"})
    uid = pwd.getpwnam("daemon").pw_uid
    for path in ("d", "d/f", "m", "m/n", "u"):
        assert (gate.folder / path).stat().st_uid == uid
    (gate.folder / "roots").write_text("x")
    await gate.client.post("/files/write", json={"path": f"{gate.folder}/roots", "content": "y"})
    assert (gate.folder / "roots").stat().st_uid == os.getuid()
