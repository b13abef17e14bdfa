"""Commands inside: their output, their end, and that nothing of them is left."""

import asyncio
import contextlib
import os
import select
import signal
import threading
from pathlib import Path

import pytest

from tests.support.agent import Agent
from thawbox import guest
from thawbox.agent import protocol
from thawbox.errors import GuestFault, GuestUnreachable
from thawbox.guest import Endpoint, Exit, GuestError, Stderr, Stdout, commands, jobs
from thawbox.guest.channel import connect

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")


async def test_output_exit_code_and_pid(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, argv=["sh", "-c", "echo out; echo err >&2; echo $$; exit 7"])
    assert done.stdout == f"out\n{done.pid}\n".encode()
    assert done.stderr == b"err\n"
    assert (done.exit_code, done.signal, done.timed_out, done.truncated) == (7, None, False, False)
    assert done.seconds > 0


async def test_shell_line(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="echo a | tr a b && exit 3")
    assert (done.stdout, done.exit_code) == (b"b\n", 3)


async def test_a_signal_is_128_and_its_number(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="kill -TERM $$")
    assert (done.exit_code, done.signal) == (143, signal.SIGTERM)


async def test_more_than_any_buffer_goes_both_ways(endpoint: Endpoint) -> None:
    data = os.urandom(5_000_000)
    done = await guest.run(endpoint, argv=["cat"], stdin=data)
    assert done.stdout == data


async def test_stdin_is_empty_when_none_is_given(endpoint: Endpoint) -> None:
    assert (await guest.run(endpoint, argv=["cat"])).stdout == b""
    assert (await guest.run(endpoint, argv=["cat"], stdin=b"")).stdout == b""


async def test_input_for_a_command_that_does_not_read_it(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, argv=["true"], stdin=b"x" * 3_000_000)
    assert done.exit_code == 0


async def test_what_exceeds_the_limit_is_thrown_away(endpoint: Endpoint) -> None:
    line = "head -c 3000000 /dev/zero; head -c 100 /dev/zero >&2; exit 5"
    done = await guest.run(endpoint, shell=line, output_limit=1000)
    assert (len(done.stdout), len(done.stderr), done.truncated, done.exit_code) == (1000, 100, True, 5)
    exact = await guest.run(endpoint, shell="head -c 1000 /dev/zero", output_limit=1000)
    assert not exact.truncated


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["no-such-program-here"], 127, b"no-such-program-here: command not found"),
        (["/no/such/program"], 127, b"no such file"),
        (["/etc/passwd"], 126, b"permission denied"),
        (["/tmp"], 126, b"permission denied"),
    ],
)
async def test_what_cannot_be_started(endpoint: Endpoint, argv: list[str], code: int, words: bytes) -> None:
    done = await guest.run(endpoint, argv=argv)
    assert done.exit_code == code
    assert words in done.stderr
    assert done.pid == 0


async def test_a_file_in_path_that_is_not_executable_is_126(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    done = await guest.run(endpoint, argv=["tool"], env={"PATH": str(tmp_path)})
    assert (done.exit_code, b"permission denied" in done.stderr) == (126, True)


async def test_a_path_entry_counts_from_the_working_folder(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "bin/tool").chmod(0o755)
    done = await guest.run(endpoint, argv=["tool"], env={"PATH": "bin"}, cwd=str(tmp_path))
    assert done.stdout == b"found\n"


async def test_working_folder(endpoint: Endpoint, tmp_path: Path) -> None:
    assert (await guest.run(endpoint, argv=["pwd"], cwd=str(tmp_path))).stdout.decode().strip() == str(
        tmp_path
    )
    assert (await guest.run(endpoint, argv=["pwd"])).stdout == b"/\n"


@pytest.mark.parametrize("cwd", ["/no/such/folder", "/etc/passwd"])
async def test_a_working_folder_that_is_none(endpoint: Endpoint, cwd: str) -> None:
    with pytest.raises(GuestError, match=cwd) as caught:
        await guest.run(endpoint, argv=["pwd"], cwd=cwd)
    assert caught.value.code == "NO_CWD"


async def test_default_environment(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, argv=["env"])
    lines = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
    assert set(lines) == {"PATH", "HOME", "USER", "LANG"}
    assert lines["LANG"] == "C.UTF-8"
    assert lines["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


async def test_own_environment_wins_over_shared_over_default(own_agent: Agent) -> None:
    await guest.init(own_agent.endpoint, env={"A": "shared", "B": "shared", "LANG": "xx"})
    done = await guest.run(own_agent.endpoint, shell="echo $A $B $LANG $C", env={"B": "own", "C": "é ü"})
    assert done.stdout.decode() == "shared own xx é ü\n"


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
async def test_environment_that_cannot_be(endpoint: Endpoint, env: dict[str, str]) -> None:
    with pytest.raises(GuestError, match="environment variable"):
        await guest.run(endpoint, argv=["true"], env=env)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"argv": []},
        {"argv": "true"},
        {"argv": [1]},
        {"argv": ["a\0b"]},
        {"argv": ["true"], "shell": "true"},
        {"argv": ["true"], "timeout": "1"},
        {"argv": ["true"], "timeout": -1},
        {"argv": ["true"], "output_limit": -1},
        {"argv": ["true"], "cwd": ""},
        {"argv": ["true"], "cwd": 5},
        {"argv": ["true"], "user": ""},
        {"argv": ["true"], "env": ["A=B"]},
        {"argv": ["true"], "env": {"A": 1}},
    ],
)
async def test_ill_formed_requests(endpoint: Endpoint, fields: dict[str, object]) -> None:
    with pytest.raises(GuestError) as caught:
        async with connect(endpoint, "spawn", fields) as channel:
            await channel.receive()
    assert caught.value.code == "INVALID"


async def test_unknown_user_is_named(endpoint: Endpoint) -> None:
    with pytest.raises(GuestError, match="'nobodyhere'") as caught:
        await guest.run(endpoint, argv=["true"], user="nobodyhere")
    assert caught.value.code == "UNKNOWN_USER"


@as_root
@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("somebody", "4242 4243 4243 4250 4251"),
        ("4242", "4242 4243 4243 4250 4251"),
        ("somebody:wheel", "4242 4250 4250"),
        ("4242:4251", "4242 4251 4251"),
        ("7777", "7777 0 0"),
        ("7777:7778", "7777 7778 7778"),
        ("root", "0 0 0"),
    ],
)
async def test_user_group_and_supplementary_groups(endpoint: Endpoint, user: str, wanted: str) -> None:
    line = "echo $(id -u) $(id -g) $(id -G | tr ' ' '\\n' | sort -n)"
    done = await guest.run(endpoint, argv=["sh", "-c", line], user=user)
    assert done.stdout.decode().strip() == wanted


@as_root
async def test_home_and_name_of_the_user(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="echo $USER $HOME", user="me")
    assert done.stdout.split()[0] in (b"me", b"root")
    done = await guest.run(endpoint, shell="echo $USER $HOME", user="somebody")
    assert done.stdout == b"somebody /\n", "a home that does not exist is no home"


async def test_children_inherit_nothing_of_the_agent(endpoint: Endpoint) -> None:
    async with guest.spawn(endpoint, argv=["sleep", "1000"]):
        done = await guest.run(endpoint, shell="ls /proc/$$/fd; readlink /proc/$$/fd/0")
    assert done.stdout.split() == [b"0", b"1", b"2", b"/dev/null"]


async def test_a_command_has_a_session_of_its_own_and_usual_signals(endpoint: Endpoint) -> None:
    done = await guest.run(
        endpoint, shell="cut -d' ' -f1,5,6 /proc/$$/stat; grep -E 'Sig(Ign|Blk)' /proc/$$/status"
    )
    pid, group, session, *_ = done.stdout.split()
    assert pid == group == session == str(done.pid).encode()
    assert b"SigBlk:\t0000000000000000" in done.stdout
    assert b"SigIgn:\t0000000000000000" in done.stdout


async def test_timeout_is_124_and_ends_the_whole_session(endpoint: Endpoint, tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    gone = watch(fifo)
    # One child in the group, one in a group of its own: all hold the pipe open.
    line = f"exec 9>{fifo}; sleep 1000 & set -m; sleep 1000 & wait"
    done = await guest.run(endpoint, shell=line, timeout=2)
    assert (done.exit_code, done.timed_out, done.signal) == (124, True, signal.SIGKILL)
    await asyncio.to_thread(gone.join, 20)
    assert not gone.is_alive()


async def test_output_before_the_timeout_is_kept(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="echo early; sleep 1000", timeout=2)
    assert (done.stdout, done.timed_out) == (b"early\n", True)


async def test_descendants_that_hold_the_output_open_do_not_delay_the_end(endpoint: Endpoint) -> None:
    done = await asyncio.wait_for(guest.run(endpoint, shell="sleep 1000 & echo $!"), 30)
    assert done.exit_code == 0
    os.kill(int(done.stdout), signal.SIGKILL)


async def test_a_descendant_that_never_stops_talking_does_not_delay_the_end(endpoint: Endpoint) -> None:
    done = await asyncio.wait_for(guest.run(endpoint, shell="yes & echo $! >&2", output_limit=10), 30)
    with contextlib.suppress(ProcessLookupError):  # the closed pipe may have ended it
        os.kill(int(done.stderr), signal.SIGKILL)
    assert done.exit_code == 0


async def test_the_last_output_of_a_command_is_never_lost(endpoint: Endpoint) -> None:
    for _ in range(20):
        done = await guest.run(endpoint, shell="head -c 65536 /dev/zero; (sleep 1000 >&2) & echo $! >&2")
        assert len(done.stdout) == 65536
        os.kill(int(done.stderr), signal.SIGKILL)


async def test_cancelling_ends_the_command(endpoint: Endpoint, tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    gone = watch(fifo)
    task = asyncio.create_task(guest.run(endpoint, shell=f"exec 9>{fifo}; echo x >&9; sleep 1000 & wait"))
    await asyncio.to_thread(gone.opened.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(gone.join, 20)
    assert not gone.is_alive()


async def test_leaving_the_block_ends_a_command_that_nobody_reads(endpoint: Endpoint, tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    gone = watch(fifo)
    async with guest.spawn(endpoint, shell=f"exec 9>{fifo}; echo x >&9; yes"):
        await asyncio.to_thread(gone.opened.wait, 20)
    await asyncio.to_thread(gone.join, 20)
    assert not gone.is_alive()


async def test_events_input_and_signals_while_it_runs(endpoint: Endpoint) -> None:
    line = (
        "trap 'echo caught; exit 9' USR1; echo ready; while read x; do echo got $x >&2; done; kill -USR1 $$"
    )
    async with guest.spawn(endpoint, shell=line, stdin=True) as process:
        assert await anext(process) == Stdout(b"ready\n")
        await process.send_stdin(b"one\n")
        assert await anext(process) == Stderr(b"got one\n")
        await process.close_stdin()
        assert await anext(process) == Stdout(b"caught\n")
        end = await anext(process)
        assert isinstance(end, Exit)
        assert (end.code, end.signal) == (9, None)
        with pytest.raises(StopAsyncIteration):
            await anext(process)


async def test_a_signal_reaches_the_group(endpoint: Endpoint) -> None:
    async with guest.spawn(endpoint, shell="echo ready; sleep 1000; echo not reached") as process:
        assert await anext(process) == Stdout(b"ready\n")
        await process.signal(signal.SIGINT)
        end = await anext(process)
    assert isinstance(end, Exit)
    assert end.code == 128 + signal.SIGINT


async def test_input_beyond_every_buffer_does_not_block_signals_and_output(endpoint: Endpoint) -> None:
    async with guest.spawn(endpoint, shell="echo ready; sleep 1000", stdin=True) as process:
        feeding = asyncio.create_task(process.send_stdin(b"x" * 20_000_000))
        assert await anext(process) == Stdout(b"ready\n")
        assert await guest.kill(endpoint, pid=process.pid)
        assert isinstance(await anext(process), Exit)
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)


async def test_a_client_that_does_not_read_gets_its_timeout_all_the_same(endpoint: Endpoint) -> None:
    fields: dict[str, object] = {"argv": ["yes"], "timeout": 0.5}
    async with connect(endpoint, "spawn", fields) as channel:
        kind, payload = await channel.receive()
        pid = int(str(channel.object(payload)["pid"]))
        watcher = os.pidfd_open(pid)
        try:
            await asyncio.to_thread(wait_for_end, watcher)
        finally:
            os.close(watcher)
        while kind != protocol.EXIT:
            kind, payload = await channel.receive()
        assert channel.object(payload)["timed_out"] is True


@pytest.mark.parametrize("pid", [2**22 + 5, 1, 0])
async def test_a_process_that_is_not_there_or_must_not_end_is_not_killed(
    endpoint: Endpoint, pid: int
) -> None:
    with pytest.raises(GuestError) as caught:
        await guest.kill(endpoint, pid=pid)
    assert caught.value.code == "NO_PROCESS"


async def test_a_negative_process_number_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(GuestError) as caught:
        await guest.kill(endpoint, pid=-5)
    assert caught.value.code == "INVALID"


async def test_a_detached_command_goes_on_and_its_end_can_be_asked_for(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    log, fifo = tmp_path / "log", tmp_path / "go"
    os.mkfifo(fifo)
    pid = await guest.start(
        endpoint, shell=f"echo begun; echo oops >&2; read x <{fifo}; exit 6", log=str(log)
    )
    watcher = os.pidfd_open(pid)
    assert await guest.command_status(endpoint, pid) is None
    await asyncio.to_thread(fifo.write_text, "go\n")
    await asyncio.to_thread(wait_for_end, watcher)
    os.close(watcher)
    assert await until_ended(endpoint, pid) == 6
    assert log.read_text() == "begun\noops\n"


async def test_a_detached_command_that_cannot_start(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="nosuchthing") as caught:
        await guest.start(endpoint, argv=["nosuchthing"])
    assert caught.value.code == "NOT_STARTED"
    with pytest.raises(GuestError, match="log"):
        await guest.start(endpoint, argv=["true"], log=str(tmp_path / "no/such/folder/log"))


async def test_status_of_what_was_never_started(endpoint: Endpoint) -> None:
    with pytest.raises(GuestError) as caught:
        await guest.command_status(endpoint, 1)
    assert caught.value.code == "NO_PROCESS"


async def test_orphans_are_reaped(endpoint: Endpoint) -> None:
    done = await guest.run(endpoint, shell="sh -c 'sleep 0.05 & echo $!'")
    orphan = Path(f"/proc/{int(done.stdout)}")
    async with asyncio.timeout(20):
        while orphan.exists():
            await guest.ping(endpoint)


async def test_nothing_is_left_open_after_many_commands(own_agent: Agent) -> None:
    fds = Path(f"/proc/{own_agent.pid}/fd")
    await guest.run(own_agent.endpoint, argv=["true"])
    for _ in range(10):
        await guest.run(own_agent.endpoint, argv=["cat"], stdin=b"x")
        await guest.run(own_agent.endpoint, argv=["nosuch"])
        await guest.run(own_agent.endpoint, argv=["sleep", "9"], timeout=0.01)
        with pytest.raises(GuestError):
            await guest.run(own_agent.endpoint, argv=["true"], cwd="/nosuch")
    async with asyncio.timeout(20):
        while len(list(fds.iterdir())) > 5:  # 0, 1, 2, the listener, and one connection on its way out
            await guest.ping(own_agent.endpoint)


class Watch(threading.Thread):
    """Ends when nobody holds the pipe open for writing any more."""

    def __init__(self, fifo: Path) -> None:
        super().__init__(daemon=True)
        self.fifo = fifo
        self.opened = threading.Event()

    def run(self) -> None:
        with self.fifo.open("rb", buffering=0) as pipe:
            self.opened.set()
            while pipe.read(4096):
                pass


def watch(fifo: Path) -> Watch:
    thread = Watch(fifo)
    thread.start()
    return thread


def wait_for_end(watcher: int) -> None:
    assert select.select([watcher], [], [], 20)[0]


async def until_ended(endpoint: Endpoint, pid: int) -> int:
    async with asyncio.timeout(20):
        while (code := await guest.command_status(endpoint, pid)) is None:
            pass
    return code


async def test_what_an_agent_was_too_slow_for_is_not_done_later(
    own_agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "QUICK_S", 0.3)
    monkeypatch.setattr(jobs, "QUICK_S", 0.3)
    endpoint, made = own_agent.endpoint, tmp_path / "made"
    os.kill(own_agent.pid, signal.SIGSTOP)
    line = f"echo x >> {made}"
    for attempt in (
        guest.run(endpoint, shell=line),
        guest.start_job(endpoint, "late", argv=["sh", "-c", line], meta={}),
    ):
        with pytest.raises(GuestFault, match=r"did not answer within 0\.3 s") as caught:
            await attempt
        assert not isinstance(caught.value, GuestUnreachable)  # it may have been done, as far as we know
    await asyncio.sleep(0)  # the loop closes the last one's connection
    os.kill(own_agent.pid, signal.SIGCONT)
    assert (await guest.run(endpoint, shell="true", timeout=30)).exit_code == 0  # asked after those
    assert await guest.list_jobs(endpoint) == []
    assert not made.exists()
