"""What a real agent answers is what the table of operations says: frames, fields, types."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import thawbox.agent
from tests.support.agent import Agent
from tests.support.protocol_record import FRAMES, NAMES
from thawbox.agent import protocol
from thawbox.guest import Endpoint
from thawbox.guest.operations import ERROR_SHAPE, LISTS, Shape, operations

PYTHON = Path(thawbox.agent.__file__).parent / "python"
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
    "object": dict,
}


@dataclass(frozen=True)
class Sample:
    """A request, and the frames after it."""

    fields: dict[str, Any] = field(default_factory=dict)
    frames: tuple[tuple[str, bytes], ...] = ()


async def exchange(
    endpoint: Endpoint, name: str, sample: Sample, on_frame: Callable[[str], object] = lambda _: None
) -> list[tuple[str, bytes]]:
    """Every frame that the agent answers until it closes its side, or until ``on_frame`` returns something true."""
    found: list[tuple[str, bytes]] = []
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        try:
            writer.write(protocol.encode_request(name, endpoint.secret, sample.fields))
            for frame, payload in sample.frames:
                writer.write(protocol.encode_frame(FRAMES[frame], payload))
            decoder = protocol.Decoder(protocol.FROM_GUEST)
            while data := await reader.read(65536):
                for kind, payload in decoder.feed(data):
                    found.append((NAMES[kind], payload))
                    if on_frame(NAMES[kind]):
                        return found
        finally:
            writer.close()
    return found


def check_object(value: Any, shape: Shape) -> None:
    assert isinstance(value, dict)
    assert set(value) <= set(shape)
    for name, kind in shape.items():
        found = value.get(name)
        if found is None:
            assert kind.endswith("?"), name
        else:
            assert isinstance(found, TYPES[kind.rstrip("?")]), name
            assert kind.rstrip("?") == "boolean" or not isinstance(found, bool), name


def check_answer(name: str, frames: list[tuple[str, bytes]]) -> set[str]:
    """The types of the frames, all of which are as the table says."""
    answers = operations()[name].answers
    for frame, payload in frames:
        assert frame in answers, (frame, payload)
        shape = answers[frame]
        if shape is None:
            continue
        value = json.loads(payload)
        for item in value if name in LISTS and frame == "DATA" else [value]:
            check_object(item, shape)
    return {frame for frame, _ in frames}


def samples(folder: Path, port: int) -> dict[str, list[Sample]]:
    """For each operation requests that together are answered with every frame that it may send."""
    text = folder / "text"
    text.write_text("text")
    (folder / "link").symlink_to("text")
    script = "echo out; echo err >&2; echo value >&$THAWBOX_RESULT_FD"
    end = ("END", b"")
    return {
        "ping": [Sample()],
        "init": [
            Sample(
                {"template_env": {}, "env": {"A": "1"}, "env_add": {"B": "2"}, "entropy": "00ff"}
                | {"hosts": "h\n", "hostname_file": "n\n", "resolv_conf": "r\n"}
            )
        ],
        "spawn": [
            Sample(
                {"shell": script, "result_limit": 100, "timeout": 30, "stdin": True}, (("STDIN_EOF", b""),)
            )
        ],
        "terminal": [
            Sample({"rows": 24, "cols": 80, "argv": ["echo", "x"]}, (("RESIZE", b"\0\x20\0\x40"),)),
            Sample({"rows": 24, "cols": 80, "argv": ["no-such-program"]}),
        ],
        "env": [Sample({"action": "merge", "env": {"C": "3"}})],
        "job": [
            Sample({"id": "a", "argv": ["cat"], "stdin": True, "meta": {"m": 1}}, (("DATA", b"in"), end))
        ],
        "jobs": [Sample({"tail": 10}), Sample({"id": "a"})],
        "kill": [Sample({"id": "a"})],
        "processes": [Sample()],
        "describe": [Sample({"names": ["sh"]})],
        "read": [Sample({"path": str(text), "offset": 1, "length": 2})],
        "write": [
            Sample({"path": f"{folder}/new", "mode": 0o600}, (("DATA", b"x"), end)),
            Sample({"late": str(folder)}, (("DATA", b"x"), ("END", f'{{"path":"{folder}/late"}}'.encode()))),
        ],
        "stat": [Sample({"path": f"{folder}/link"}), Sample({"path": f"{folder}/link", "follow": True})],
        "list": [Sample({"path": str(folder)})],
        "mkdir": [Sample({"path": f"{folder}/made"})],
        "remove": [Sample({"path": f"{folder}/made"})],
        "probe": [Sample({"kind": "file", "target": "/"}), Sample({"kind": "port", "target": port})],
        "usage": [Sample()],
        "place": [Sample({"dest": f"{folder}/placed/"}, (("DATA", archive()), end))],
        "warm": [Sample({"argv": [sys.executable, f"{PYTHON}/warm.py"], "modules": ["decimal"], "count": 1})],
        "dial": [Sample({"port": port}, (("DATA", b"ping"), end))],
        "quiesce": [Sample()],
    }


def archive() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("file")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    return data.getvalue()


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A program that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


async def test_answers(own_agent: Agent, tmp_path: Path, echo_port: int) -> None:
    await exchange(own_agent.endpoint, "spawn", Sample({"argv": ["true"]}))
    for name, requests in samples(tmp_path, echo_port).items():
        operation = operations()[name]
        frames: set[str] = set()
        for sample in requests:
            assert set(sample.fields) <= set(operation.takes), name
            assert {frame for frame, _ in sample.frames} <= set(operation.sends), name
            frames |= check_answer(name, await exchange(own_agent.endpoint, name, sample))
        assert frames == set(operation.answers), name


async def test_answers_about_a_detached_command(endpoint: Endpoint) -> None:
    sample = Sample({"argv": ["sleep", "60"], "detach": True})
    [(_, started)] = await exchange(endpoint, "spawn", sample, lambda frame: frame == "STARTED")
    about = Sample({"pid": json.loads(started)["pid"]})
    assert check_answer("status", await exchange(endpoint, "status", about)) == {"RESULT"}
    assert check_answer("kill", await exchange(endpoint, "kill", about)) == {"RESULT"}


async def test_answers_of_a_watch(endpoint: Endpoint, tmp_path: Path) -> None:
    folder = tmp_path / "watched"
    folder.mkdir()

    def remove_when_watched(frame: str) -> None:
        if frame == "STDOUT" and folder.exists():
            folder.rmdir()

    frames = await exchange(endpoint, "watch", Sample({"path": str(folder)}), remove_when_watched)
    assert check_answer("watch", frames) == {"STARTED", "STDOUT", "EXIT"}


async def test_answer_of_a_program_behind_a_unix_socket(endpoint: Endpoint, tmp_path: Path) -> None:
    path = tmp_path / "program.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        assert json.loads(await reader.readline()) == {"op": "x"}
        writer.write(b"{}\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    try:
        sample = Sample({"socket": str(path), "question": {"op": "x"}, "user": str(os.getuid())})
        assert check_answer("ask", await exchange(endpoint, "ask", sample)) == {"DATA", "END"}
    finally:
        server.close()


async def test_answer_of_renewing(own_agent: Agent) -> None:
    assert check_answer("renew", await exchange(own_agent.endpoint, "renew", Sample())) == {"RESULT"}


def test_every_operation_is_tried_here(tmp_path: Path) -> None:
    assert set(samples(tmp_path, 1)) | {"status", "watch", "ask", "renew"} == set(operations())


@pytest.mark.parametrize("name", ["dance", "signal"])
async def test_error_of_an_operation_that_the_agent_does_not_have(endpoint: Endpoint, name: str) -> None:
    [(frame, payload)] = await exchange(endpoint, name, Sample())
    assert frame == "ERROR"
    check_object(json.loads(payload), ERROR_SHAPE)
    assert json.loads(payload)["code"] == "UNKNOWN_OPERATION"
