from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from typing import Any

from websockets.asyncio.client import ClientConnection

from tests.support.gateway import Live, frame, frames, say


async def until(socket: ClientConnection, pattern: str) -> str:
    """Everything that is printed until ``pattern`` shows up."""
    printed = ""
    while not re.search(pattern, printed):
        try:
            got = await frame(socket)
        except TimeoutError:
            raise AssertionError(f"{pattern!r} did not come after {printed!r}") from None
        assert got["type"] == "output", (got, printed)
        printed += got["data"]
    return printed


async def type_line(socket: ClientConnection, line: str) -> None:
    await say(socket, type="input", data=line + "\n")


async def start(socket: ClientConnection, **fields: Any) -> None:
    await say(socket, type="start", **fields)


async def test_prompt_comes_unprompted_and_exit_code_at_the_end(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        await type_line(socket, "echo it is $((6*7)); exit 3")
        got = await frames(socket)
    assert "it is 42" in "".join(item.get("data", "") for item in got)
    assert got[-1] == {"type": "exit", "code": 3, "exitCode": 3}
    assert socket.close_code == 1000


async def test_it_is_a_login_shell_on_a_terminal_of_its_own(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        await type_line(
            socket, "shopt -q login_shell && tty && echo [$TERM] && pwd && stty size && jobs -l; exit"
        )
        printed = "".join(item.get("data", "") for item in await frames(socket))
    assert re.search(r"/dev/pts/\d+", printed)
    assert "[xterm-256color]" in printed
    assert str(live.gate.folder) in printed
    assert "24 80" in printed
    assert "no job control" not in printed


async def test_first_frame_says_what_runs(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(
            socket,
            command="sh",
            args=["-c", "stty size; echo $X; pwd"],
            rows=33,
            cols=111,
            env={"X": "y z"},
            workdir="/usr",
        )
        got = await frames(socket)
    assert "".join(item.get("data", "") for item in got) == "33 111\r\ny z\r\n/usr\r\n"
    assert got[-1]["code"] == 0


async def test_line_without_arguments_goes_to_the_shell(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command="echo $((1+1)); exit 7")
        got = await frames(socket)
    assert (got[0]["data"], got[-1]["exitCode"]) == ("2\r\n", 7)


async def test_resize_reaches_the_program_in_front(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command="trap 'stty size; exit' WINCH; echo ready; while :; do read x; done")
        await until(socket, "ready")
        for nonsense in ({}, {"cols": 0, "rows": 5}, {"cols": "9", "rows": True}, {"cols": 10**9, "rows": 1}):
            await say(socket, type="resize", **nonsense)
        await say(socket, type="resize", cols=132, rows=43)
        assert "43 132" in await until(socket, r"\d+ \d+\r\n")


async def test_control_c_ends_the_program_and_not_the_shell(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        # One process says it and then waits: between two, a shell may miss the signal.
        await type_line(socket, """sh -c 'echo be""gun; exec sleep 1000'""")
        await until(socket, "begun")
        await say(socket, type="input", data="\x03")
        await until(socket, r"[$#] ")
        await type_line(socket, "echo alive $?")
        await until(socket, "alive 130")


async def test_control_d_ends_the_shell(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        await say(socket, type="input", data="\x04")
        assert (await frames(socket))[-1]["code"] == 0


async def test_client_that_goes_takes_the_session_with_it(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        await type_line(socket, "sleep 1000 & echo shell=$$ job=$!")
        printed = await until(socket, r"job=\d+")
    pids = [int(re.findall(rf"{name}=(\d+)", printed)[-1]) for name in ("shell", "job")]
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


async def test_characters_cut_between_two_reads_are_whole(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command=r"printf '\342'; sleep 0.1; printf '\202'; sleep 0.1; printf '\254.'")
        assert await until(socket, r"\.") == "€."


async def test_much_output_arrives_whole(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command="seq 1 200000")
        got = await frames(socket)
    lines = "".join(item.get("data", "") for item in got).split()
    assert lines == [str(number) for number in range(1, 200001)]
    assert got[-1]["code"] == 0


async def test_program_that_cannot_start_says_so(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command="no-such-program", args=[])
        got = await frames(socket)
    assert "not found" in got[0]["data"]
    assert got[-1] == {"type": "exit", "code": 127, "exitCode": 127}


async def test_program_killed_by_a_signal_has_a_shells_exit_code(live: Live) -> None:
    async with live.connect("/terminal?start=1") as socket:
        await start(socket, command="kill -9 $$")
        assert (await frames(socket))[-1]["code"] == 128 + signal.SIGKILL


async def test_wrong_first_frames_are_refused_in_a_sentence(live: Live) -> None:
    bad: list[dict[str, Any]] = [
        {"type": "input", "data": "x"},
        {"type": "start", "rows": 0},
        {"type": "start", "cols": "80"},
        {"type": "start", "command": ""},
        {"type": "start", "command": "a\x00b", "args": []},
        {"type": "start", "env": {"A=": "b"}},
        {"type": "start", "workdir": "/no/such"},
    ]
    for fields in bad:
        async with live.connect("/terminal?start=1") as socket:
            await say(socket, **fields)
            error, last = await frames(socket)
        assert error["type"] == "error"
        assert error["code"] in ("INVALID_REQUEST", "INVALID_PATH"), error
        assert last == {"type": "exit", "code": -1, "exitCode": -1}


async def test_frames_that_mean_nothing_are_ignored(live: Live) -> None:
    async with live.connect("/terminal") as socket:
        await until(socket, r"[$#] ")
        for nonsense in ({}, {"type": "input"}, {"type": "input", "data": 5}, {"type": "dance"}):
            await say(socket, **nonsense)
        await socket.send('{"type":"input","data":"\\ud800"}')
        await type_line(socket, "\x15echo still $((1+1))")
        await until(socket, "still 2")
