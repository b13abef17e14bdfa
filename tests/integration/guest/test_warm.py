"""Warm interpreters: the same as new ones, but for what they have imported."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import thawbox.agent
from tests.support.agent import Agent, run_agent
from thawbox import guest
from thawbox.agent import warm as warm_programs
from thawbox.guest import Completed, Endpoint, GuestError
from thawbox.guest.channel import call

PYTHON = Path(thawbox.agent.__file__).parent / "python"
WARM = [sys.executable, str(PYTHON / "warm.py")]
RUN = [sys.executable, str(PYTHON / "run.py")]


@pytest.fixture(scope="module")
def warm_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """An agent of this module's own."""
    yield from run_agent(tmp_path_factory.mktemp("agent") / "root", tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
async def warm(warm_agent: Agent) -> Endpoint:
    """An agent with interpreters that have imported ``decimal`` and ``random``."""
    fields = {"argv": WARM, "modules": ["decimal", "random", "uuid"], "cwd": "/"}
    assert await call(warm_agent.endpoint, "warm", fields, 60) == {"children": 2}
    return warm_agent.endpoint


async def execute(
    endpoint: Endpoint, code: str, *, warm: bool, cwd: str = "/", env: dict[str, str] | None = None
) -> Completed:
    """Run ``code`` warm, once a child waits, or in a new interpreter."""
    for _ in range(200):
        marked = f"import sys; sys.stderr.write(str('decimal' in sys.modules) + '\\n')\n{code}"
        done = await guest.run(
            endpoint,
            argv=RUN,
            stdin=marked.encode(),
            cwd=cwd,
            env=env,
            timeout=30,
            result_limit=1 << 20,
            imports=["decimal"] if warm else [],
        )
        first, _, rest = done.stderr.partition(b"\n")
        if (first == b"True") == warm:
            return Completed(**{**done.__dict__, "stderr": rest, "pid": 0, "seconds": 0.0})
    raise AssertionError(f"no interpreter of the kind that is wanted ran it: {done}")


def children_of(parent: int) -> list[int]:
    """The processes that ``parent`` started or adopted."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


CODES = {
    "prints": "print('x'); print('y', end='')",
    "value": "6 * 7",
    "exit code": "import sys; sys.exit(3)",
    "exit text": "import sys; sys.exit('bad')",
    "exit none": "import sys; sys.exit()",
    "exit large": "import sys; sys.exit(256 + 7)",
    "raises": "def f():\n  1/0\nf()",
    "syntax": "exec('def f(:')",
    "killed": "import os; os.kill(os.getpid(), 15)",
    "_exit": "import os; print('lost'); os._exit(4)",
    "atexit": "import atexit; atexit.register(print, 'bye')",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.1), print('late'))).start()",
    "del": "class A:\n  def __del__(self): print('gone')\na = A()",
    "fork": "import os\npid = os.fork()\nif pid == 0: os._exit(7)\nos.waitpid(pid, 0)[1]",
    "names": "import sys; print(sys.argv, sys.orig_argv, __name__, sys.path, sys.executable, sorted(globals()))",
    "process": "import os; print(os.getcwd(), oct(os.umask(0)), os.getuid(), os.getgid(), os.getgroups(), "
    "os.getsid(0) == os.getpid() == os.getpgid(0))",
    "environment": "import os; print(sorted(os.environ.items()))",
    "descriptors": "import os; print([fd for fd in range(3) if os.isatty(fd)], len(os.listdir('/proc/self/fd')))",
    "inherited": "import subprocess; print(subprocess.run(['ls', '/proc/self/fd'], capture_output=True).stdout)",
    "stdin": "input()",
    "signals": "import signal; print([signal.getsignal(n) for n in (2, 13, 15)], signal.pthread_sigmask(0, []))",
    "threads": "import threading; print(threading.active_count(), threading.current_thread().name)",
    "own module": "import run, warm",
    "closed": "import sys; print('x'); sys.stdout.close()",
    "replaced": "import sys, io; sys.stdout = io.StringIO(); print('x')",
    "large": "print('x' * 300000)",
}


@pytest.mark.parametrize("name", CODES)
async def test_runs_as_in_a_new_interpreter(warm: Endpoint, tmp_path: Path, name: str) -> None:
    for module in ("run", "warm"):
        (tmp_path / f"{module}.py").write_text(f"print('own {module}')")
    env = {"OWN": "value"}
    inside = await execute(warm, CODES[name], warm=True, cwd=str(tmp_path), env=env)
    assert inside == await execute(warm, CODES[name], warm=False, cwd=str(tmp_path), env=env)


async def test_random_state_is_fresh_in_each(warm: Endpoint) -> None:
    code = "import random, uuid; print(random.random(), uuid.uuid4(), uuid.uuid1())"
    said = [(await execute(warm, code, warm=True)).stdout.split() for _ in range(4)]
    for values in zip(*said, strict=True):
        assert len(set(values)) == 4


@pytest.mark.parametrize("env", [{"PYTHONHASHSEED": "1"}, {"PATH": "/bin"}, {"TZ": "UTC"}, {"HOME": "/"}])
async def test_what_a_warm_one_cannot_honour_gets_a_new_one(warm: Endpoint, env: dict[str, str]) -> None:
    code = b"import sys; print('decimal' in sys.modules)"
    done = await guest.run(warm, argv=RUN, stdin=code, env=env, imports=["decimal"], timeout=30)
    assert done.stdout == b"False\n"


async def test_code_that_needs_none_of_the_modules_gets_a_new_one(warm: Endpoint) -> None:
    code = b"import sys; print('decimal' in sys.modules)"
    done = await guest.run(warm, argv=RUN, stdin=code, imports=["json"], timeout=30)
    assert done.stdout == b"False\n"


async def test_timeout_ends_it(warm: Endpoint) -> None:
    done = await guest.run(
        warm, argv=RUN, stdin=b"import time; time.sleep(60)", imports=["decimal"], timeout=0.5
    )
    assert (done.timed_out, done.exit_code) == (True, 124)


async def test_job_runs_in_a_warm_one(warm: Endpoint) -> None:
    code = b"import sys; print('decimal' in sys.modules, len(sys.argv)); sys.exit(3)"
    async with asyncio.timeout(20):
        for number in itertools.count():
            name = f"warm{number}"
            await guest.start_job(warm, name, argv=RUN, meta={}, stdin=code, imports=["decimal"], cwd="/")
            while (job := await guest.read_job(warm, name)).ended is None:
                await asyncio.sleep(0.01)
            assert job.code == 3
            if job.stdout == "True 1\n":  # else none was waiting just then
                break


async def test_module_that_is_not_there_is_named(warm_agent: Agent) -> None:
    fields = {"argv": WARM, "modules": ["no_such_module"], "cwd": "/"}
    with pytest.raises(GuestError, match="no_such_module cannot be imported: ModuleNotFoundError") as caught:
        await call(warm_agent.endpoint, "warm", fields, 60)
    assert caught.value.code == "WARM_FAILED"


async def runs_warm(endpoint: Endpoint) -> bool:
    """Whether code that imports ``decimal`` runs, and in an interpreter that waited."""
    code = b"import sys; print('decimal' in sys.modules)"
    done = await guest.run(endpoint, argv=RUN, stdin=code, imports=["decimal"], timeout=30)
    assert done.exit_code == 0
    return done.stdout == b"True\n"


def first_of(agent: Agent) -> int:
    """The process of which those that wait are forks; they are the agent's children too, but younger."""
    return min(children_of(agent.pid))


async def test_first_process_that_died_is_started_again(own_agent: Agent) -> None:
    endpoint = own_agent.endpoint
    fields = {"argv": WARM, "modules": ["decimal"], "cwd": "/"}
    await call(endpoint, "warm", fields, 60)
    await guest.init(endpoint, env={"SECRET": "of-this-sandbox"})
    before = children_of(own_agent.pid)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert not await runs_warm(endpoint)  # nobody waits, and a new one serves
    async with asyncio.timeout(30):
        while not await runs_warm(endpoint):
            pass
    first = first_of(own_agent)
    assert first not in before
    assert b"decimal" in Path(f"/proc/{first}/cmdline").read_bytes()
    assert b"SECRET" not in Path(f"/proc/{first}/environ").read_bytes()


async def test_children_of_a_dead_first_process_serve_and_then_end(own_agent: Agent) -> None:
    await call(own_agent.endpoint, "warm", {"argv": WARM, "modules": ["decimal"], "cwd": "/"}, 60)
    before = children_of(own_agent.pid)
    os.kill(first_of(own_agent), signal.SIGKILL)
    assert await runs_warm(own_agent.endpoint)
    async with asyncio.timeout(30):
        while any(is_running(pid) for pid in before):
            await runs_warm(own_agent.endpoint)
        while not await runs_warm(own_agent.endpoint):
            pass


async def test_children_that_were_killed_are_forked_again(own_agent: Agent) -> None:
    await call(own_agent.endpoint, "warm", {"argv": WARM, "modules": ["decimal"], "cwd": "/"}, 60)
    first = first_of(own_agent)
    for pid in children_of(own_agent.pid):
        if pid != first:
            os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        while not await runs_warm(own_agent.endpoint):
            pass
    assert is_running(first)


async def test_first_process_that_cannot_be_started_again_is_tried_seldom(
    own_agent: Agent, tmp_path: Path
) -> None:
    log, module = tmp_path / "log", tmp_path / "own_module.py"
    module.write_text(f"import time\nprint(time.monotonic(), file=open({str(log)!r}, 'a'), flush=True)\n")
    env = {"PYTHONPATH": str(tmp_path)}
    await call(
        own_agent.endpoint, "warm", {"argv": WARM, "modules": ["own_module"], "cwd": "/", "env": env}, 60
    )
    module.write_text(module.read_text() + "1/0\n")
    for pid in children_of(own_agent.pid):
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        while len(times := [float(line) for line in log.read_text().split()]) < 4:
            done = await guest.run(
                own_agent.endpoint, argv=RUN, stdin=b"print(1)", imports=["own_module"], env=env, timeout=30
            )
            assert done.stdout == b"1\n"
    _, first, second, third = times
    assert second - first >= warm_programs.RESTART_PAUSE_SECONDS
    assert third - second >= warm_programs.RESTART_PAUSE_SECONDS * 4


async def test_where_memory_is_short_none_is_started_again(own_agent: Agent) -> None:
    fields = {"argv": WARM, "modules": ["decimal"], "cwd": "/", "memory": 1}
    await call(own_agent.endpoint, "warm", fields, 60)
    for pid in children_of(own_agent.pid):
        os.kill(pid, signal.SIGKILL)
    for _ in range(20):  # each of them could have one started
        assert not await runs_warm(own_agent.endpoint)
    assert not [
        pid for pid in children_of(own_agent.pid) if b"decimal" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


async def test_without_the_agent_none_stays(own_agent: Agent) -> None:
    fields = {"argv": WARM, "modules": ["decimal"], "cwd": "/"}
    assert await call(own_agent.endpoint, "warm", fields, 60) == {"children": 2}
    warm = children_of(own_agent.pid)
    assert warm
    os.kill(own_agent.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while any(is_running(pid) for pid in warm):
            await asyncio.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
