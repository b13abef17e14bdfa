"""A guest that lies: the client answers with a GuestFault, in bounded time and memory."""

import json
from collections.abc import Awaitable, Callable

import pytest

from tests.support.hostile_agent import NONSENSE, SECRET, STARTED, lying_agent
from thawbox import guest
from thawbox.agent import protocol
from thawbox.agent.protocol import encode_frame, encode_object
from thawbox.errors import GuestFault
from thawbox.guest import Endpoint, GuestError


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_to_a_question(answer: bytes) -> None:
    async with lying_agent(answer) as endpoint:
        with pytest.raises(GuestFault):
            await guest.probe(endpoint, "file", "/x")


@pytest.mark.parametrize("answer", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_to_a_command(answer: bytes) -> None:
    async with lying_agent(answer) as endpoint:
        with pytest.raises(GuestFault):
            await guest.run(endpoint, argv=["true"])
    async with lying_agent(STARTED + answer) as endpoint:
        with pytest.raises(GuestFault):
            await guest.run(endpoint, argv=["true"])


EXIT = {"code": 0, "signal": None, "timed_out": False, "truncated": False, "seconds": 0.1}


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "0"},
        {"code": True},
        {"signal": "9"},
        {"timed_out": 1},
        {"seconds": "x"},
        {"seconds": 10**400},
    ],
)
async def test_an_end_with_wrong_types(wrong: dict[str, object]) -> None:
    async with lying_agent(STARTED + encode_object(protocol.EXIT, {**EXIT, **wrong})) as endpoint:
        with pytest.raises(GuestFault, match=next(iter(wrong))):
            await guest.run(endpoint, argv=["true"])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
async def test_numbers_that_are_none(number: str) -> None:
    text = json.dumps(EXIT).replace("0.1", number).encode()
    async with lying_agent(STARTED + encode_frame(protocol.EXIT, text)) as endpoint:
        with pytest.raises(GuestFault, match="seconds"):
            await guest.run(endpoint, argv=["true"])


async def test_more_output_than_asked_for_is_cut() -> None:
    flood = encode_frame(protocol.STDOUT, b"x" * 1_000_000) * 5
    async with lying_agent(STARTED + flood + encode_object(protocol.EXIT, dict(EXIT))) as endpoint:
        done = await guest.run(endpoint, argv=["true"], output_limit=1000)
    assert (len(done.stdout), done.truncated) == (1000, True)


CALLS: dict[str, Callable[[Endpoint], Awaitable[object]]] = {
    "ping": lambda endpoint: guest.ping(endpoint, timeout=0.05),
    "init": lambda endpoint: guest.init(endpoint, timeout=0.05),
    "stat": lambda endpoint: guest.stat(endpoint, "/", timeout=0.05),
    "list": lambda endpoint: guest.list_dir(endpoint, "/", timeout=0.05),
    "write": lambda endpoint: guest.write_file(endpoint, "/f", b"x" * 30_000_000, timeout=0.05),
    "place": lambda endpoint: guest.place(endpoint, b"x" * 30_000_000, dest="/", timeout=0.05),
    "env": lambda endpoint: guest.read_environment(endpoint, timeout=0.05),
    "jobs": lambda endpoint: guest.list_jobs(endpoint, timeout=0.05),
    "job": lambda endpoint: guest.read_job(endpoint, "a", timeout=0.05),
    "kill": lambda endpoint: guest.kill(endpoint, pid=5, timeout=0.05),
    "processes": lambda endpoint: guest.list_processes(endpoint, timeout=0.05),
    "describe": lambda endpoint: guest.describe(endpoint, timeout=0.05),
    "wait_ready": lambda endpoint: guest.wait_ready(endpoint, 0.05),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_silence_ends(call: Callable[[Endpoint], Awaitable[object]]) -> None:
    async with lying_agent(b"", stays_open=True) as endpoint:
        with pytest.raises(GuestFault, match="did not answer within"):
            await call(endpoint)


JOB = {
    "id": "a",
    "meta": {},
    "pid": 5,
    "started": 1.0,
    "ended": None,
    "seconds": 1.0,
    "code": None,
    "killed": False,
    "timed_out": False,
    "truncated": False,
    "stdout": "",
    "stderr": "",
    "log": "/x",
}
PROCESS = {
    "pid": 1,
    "ppid": 0,
    "name": "x",
    "state": "S",
    "user": "root",
    "cpu": 0.1,
    "age": 1.0,
    "memory": 4096,
    "command": "x",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"meta": 5},
        {"meta": {"name": "\ud800"}},
        {"pid": 2**70},
        {"started": -1},
        {"ended": 1e15},
        {"stdout": "\ud800"},
        {"code": "0"},
        {"log": None},
    ],
)
async def test_a_job_that_is_none(wrong: dict[str, object]) -> None:
    frame = encode_frame(protocol.DATA, json.dumps({**JOB, **wrong}).encode())
    async with lying_agent(frame + encode_frame(protocol.END)) as endpoint:
        with pytest.raises(GuestFault):
            await guest.list_jobs(endpoint)


@pytest.mark.parametrize("wrong", [{"memory": 10**100}, {"cpu": "x"}, {"name": "\udcff"}, {"pid": None}])
async def test_a_process_that_is_none(wrong: dict[str, object]) -> None:
    page = encode_frame(protocol.DATA, json.dumps([{**PROCESS, **wrong}]).encode())
    async with lying_agent(page + encode_frame(protocol.END)) as endpoint:
        with pytest.raises(GuestFault):
            await guest.list_processes(endpoint)


async def test_endless_jobs_and_processes_end() -> None:
    async with lying_agent(encode_frame(protocol.DATA, json.dumps(JOB).encode()) * 2000) as endpoint:
        with pytest.raises(GuestFault, match="jobs"):
            await guest.list_jobs(endpoint)
    page = encode_frame(protocol.DATA, json.dumps([PROCESS] * 1000).encode())
    async with lying_agent(page * 20) as endpoint:
        with pytest.raises(GuestFault, match="processes"):
            await guest.list_processes(endpoint)


@pytest.mark.parametrize("env", [None, [], {"A": 1}, {"A": "\ud800"}, {"\udfff": "x"}])
async def test_an_environment_that_is_none(env: object) -> None:
    async with lying_agent(encode_object(protocol.RESULT, {"env": env})) as endpoint:
        with pytest.raises(GuestFault, match="env"):
            await guest.read_environment(endpoint)


async def test_more_results_than_asked_for_are_cut() -> None:
    flood = encode_frame(protocol.VALUE, b"x" * 1_000_000) * 5
    async with lying_agent(STARTED + flood + encode_object(protocol.EXIT, dict(EXIT))) as endpoint:
        done = await guest.run(endpoint, argv=["true"], result_limit=1000)
    assert (len(done.value), done.truncated) == (1000, True)


async def test_an_endless_listing_ends() -> None:
    entry = {"type": "file", "size": 0, "mode": 0, "uid": 0, "gid": 0, "mtime": 0, "name": "x"}
    page = encode_frame(protocol.DATA, json.dumps([entry] * 9000).encode())
    async with lying_agent(page * 30) as endpoint:
        with pytest.raises(GuestError, match="entries"):
            await guest.list_dir(endpoint, "/")


@pytest.mark.parametrize("page", [b"{}", b"[1]", b"[{}]", b'[{"type":5}]', b"[" * 1000])
async def test_a_listing_that_is_none(page: bytes) -> None:
    async with lying_agent(encode_frame(protocol.DATA, page) + encode_frame(protocol.END)) as endpoint:
        with pytest.raises(GuestFault):
            await guest.list_dir(endpoint, "/")


@pytest.mark.parametrize("value", [{}, {"load": [1, 2]}, {"load": "abc"}])
async def test_usage_that_is_none(value: dict[str, object]) -> None:
    async with lying_agent(encode_object(protocol.RESULT, value)) as endpoint:
        with pytest.raises(GuestFault):
            await guest.usage(endpoint)


async def test_an_over_long_request_is_the_callers_fault() -> None:
    with pytest.raises(GuestError) as caught:
        await guest.run(Endpoint("127.0.0.1", 1, SECRET), shell="x" * 2_000_000)
    assert caught.value.code == "INVALID"


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(Endpoint("127.0.0.1", 1, SECRET))
