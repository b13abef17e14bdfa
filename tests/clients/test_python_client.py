"""The published Python client, unmodified: what it can ask of this server today works."""

from __future__ import annotations

import asyncio
import hashlib
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import hopx_ai
import httpx
import pytest
from hopx_ai import AsyncSandbox, Sandbox
from hopx_ai.template import BuildOptions, Template, get_logs, wait_for_port

from tests.system.server import Server

NAME = "python-client"


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.new_key("python")


@pytest.fixture(scope="module")
def access(server: Server, key: str) -> dict[str, str]:
    """What every call of the client gets."""
    return {"api_key": key, "base_url": server.url}


def options(access: dict[str, str], name: str, **more: Any) -> BuildOptions:
    return BuildOptions(name=name, cpu=1, memory=512, disk_gb=2, **access, **more)


@pytest.fixture(scope="module")
async def built(access: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A template with everything that the builder offers, and what the client told meanwhile."""
    context = tmp_path_factory.mktemp("context")
    (context / "app").mkdir()
    (context / "app" / "main.py").write_text("print('from a folder')\n")
    (context / "note.txt").write_text("from a file")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "deep").write_text("from an absolute folder")
    template = (
        Template(from_image="debian:12")
        .apt_install("python3")
        .set_env("GREETING", "hello")
        .set_workdir("/app")
        .copy("app/", "/app/")
        .copy("note.txt", "/app/note.txt")
        .copy(str(elsewhere), "/elsewhere")
        .run_cmd("cat note.txt > copy.txt && echo $GREETING > greeting.txt")
        .set_start_cmd("python3 -m http.server 8000", wait_for_port(8000))
    )
    logs: list[dict[str, Any]] = []
    progress: list[int] = []
    result = await Template.build(
        template,
        options(access, NAME, context_path=str(context), on_log=logs.append, on_progress=progress.append),
    )
    return {"result": result, "logs": logs, "progress": progress}


@pytest.fixture
def sandbox(access: dict[str, str], built: dict[str, Any]) -> Any:
    with Sandbox.create(template=NAME, timeout_seconds=600, **access) as made:
        yield made


async def test_build(built: dict[str, Any], access: dict[str, str]) -> None:
    result = built["result"]
    assert result.build_id == result.template_id
    assert result.duration > 0
    assert built["progress"][-1] == 100
    said = [entry["message"] for entry in built["logs"]]
    assert any("RUN cat note.txt" in line for line in said)
    assert any("Template active and stable" in line for line in said)
    assert not [entry for entry in built["logs"] if entry.get("level") == "ERROR"]
    whole = await result.get_logs()
    assert (whole.status, whole.complete) == ("active", True)
    assert (await get_logs(result.template_id, offset=whole.offset, **access)).logs == ""


async def test_build_that_fails_tells_why(access: dict[str, str]) -> None:
    template = Template(from_image="debian:12").run_cmd("echo oh no >&2; exit 3")
    with pytest.raises(hopx_ai.TemplateBuildError, match="exit status 3") as raised:
        await Template.build(template, options(access, "python-client-fails"))
    assert raised.value.request_id.startswith("req_")


async def test_build_of_a_name_that_is_taken(access: dict[str, str], built: dict[str, Any]) -> None:
    template = Template(from_image="debian:12").run_cmd("true")
    with pytest.raises(Exception, match=r"409.*A template with alias 'python-client' already exists"):
        await Template.build(template, options(access, NAME))


def test_templates(access: dict[str, str], built: dict[str, Any]) -> None:
    listed = {template.name: template for template in Sandbox.list_templates(**access)}
    assert listed[NAME].category == "custom"
    assert [template.name for template in Sandbox.list_templates(category="nothing", **access)] == []
    one = Sandbox.get_template(NAME, **access)
    assert one.id == built["result"].template_id
    assert (one.status, one.is_active) == ("active", True)
    assert (one.default_resources.vcpu, one.default_resources.memory_mb) == (1, 512)


def test_sandbox(sandbox: Sandbox, access: dict[str, str]) -> None:
    info = sandbox.get_info()
    assert (info.sandbox_id, info.template_name, info.status) == (sandbox.sandbox_id, NAME, "running")
    assert (info.resources.vcpu, info.resources.memory_mb, info.resources.disk_mb) == (1, 512, 2048)
    assert info.timeout_seconds == 600
    assert sandbox.is_healthy()
    assert sandbox.sandbox_id in [other.sandbox_id for other in Sandbox.list(status="running", **access)]
    assert sandbox.sandbox_id in [other.sandbox_id for other in Sandbox.iter(**access)]
    assert Sandbox.health_check(base_url=access["base_url"])["status"] == "ok"


def test_what_was_built_is_inside(sandbox: Sandbox) -> None:
    ran = sandbox.commands.run(
        "python3 main.py; cat copy.txt greeting.txt /elsewhere/deep; echo; echo $GREETING", working_dir="/app"
    )
    lines = ["from a folder", "from a filehello", "from an absolute folder", "hello"]
    assert (ran.exit_code, ran.stdout.splitlines()) == (0, lines), ran
    served = sandbox.commands.run("bash -c '</dev/tcp/127.0.0.1/8000'")
    assert served.exit_code == 0


def test_commands(sandbox: Sandbox) -> None:
    failed = sandbox.commands.run("echo out; echo err >&2; exit 7")
    assert (failed.exit_code, failed.stdout, failed.stderr) == (7, "out\n", "err\n")
    assert sandbox.commands.run("echo $MINE", env={"MINE": "yes"}).stdout == "yes\n"
    assert sandbox.commands.run("pwd").stdout == "/workspace\n"
    assert sandbox.commands.run("sleep 100", timeout=1).exit_code == 124


def test_files(sandbox: Sandbox, tmp_path: Path) -> None:
    files = sandbox.files
    files.write("/workspace/new/file.txt", "häß\n")
    assert files.read("/workspace/new/file.txt") == "häß\n"
    data = bytes(range(256))
    files.write_bytes("/workspace/bytes", data)
    assert (
        sandbox.commands.run("sha256sum /workspace/bytes").stdout.split()[0]
        == hashlib.sha256(data).hexdigest()
    )
    assert files.read_bytes("/workspace/bytes") == data
    with pytest.raises(hopx_ai.FileNotFoundError) as raised:
        files.read("/workspace/missing")
    assert raised.value.path == "/workspace/missing"
    (tmp_path / "local").write_bytes(data * 4000)
    files.upload(str(tmp_path / "local"), "/workspace/up load.bin")
    files.download("/workspace/up load.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data * 4000
    files.mkdir("/workspace/folder/deep")
    listed = {one.name: one for one in files.list("/workspace")}
    assert set(listed) >= {"new", "bytes", "folder", "up load.bin"}
    assert (listed["folder"].is_directory, listed["bytes"].is_directory) == (True, False)
    assert (listed["bytes"].size, listed["bytes"].path) == (256, "/workspace/bytes")
    assert listed["bytes"].modified_time is not None
    assert listed["bytes"].permissions == "-rw-r--r--"
    assert files.exists("/workspace/folder")
    files.remove("/workspace/folder")
    assert not files.exists("/workspace/folder")
    with pytest.raises(hopx_ai.FileNotFoundError):
        files.remove("/workspace/folder")


async def test_terminal(sandbox: Sandbox) -> None:
    async with asyncio.timeout(30), await sandbox.terminal.connect() as socket:
        await sandbox.terminal.resize(socket, cols=132, rows=43)
        await sandbox.terminal.send_input(socket, "stty size; echo $GREETING; exit 3\n")
        seen = [message async for message in sandbox.terminal.iter_output(socket)]
    assert seen[-1] == {"type": "exit", "code": 3, "exitCode": 3}
    printed = "".join(message.get("data", "") for message in seen)
    assert "43 132\r\nhello\r\n" in printed


async def test_watched_folder(sandbox: Sandbox) -> None:
    assert await _watched(sandbox.files, sandbox.files.watch("/workspace"))


async def _watched(files: Any, events: Any) -> bool:
    """Whether a file that is written shows up. The client does not say when it watches, so it is tried again."""

    async def write() -> None:
        number = 0
        while True:
            number += 1
            done = files.write(f"/workspace/seen-{number}", "x")
            if done is not None:
                await done
            await asyncio.sleep(0.2)

    writing = asyncio.create_task(write())
    try:
        async with asyncio.timeout(20):
            async for event in events:
                if event["type"] == "change" and event["path"].startswith("/workspace/seen-"):
                    return event["event"] in ("created", "modified")
    finally:
        writing.cancel()
    return False


def test_timeout_token_and_end(access: dict[str, str], built: dict[str, Any]) -> None:
    sandbox = Sandbox.create(template_id=built["result"].template_id, **access)
    assert sandbox.get_info().timeout_seconds is None
    sandbox.set_timeout(120)
    assert sandbox.get_info().timeout_seconds == 120
    assert 0 < (sandbox.get_time_to_expiry() or 0) <= 120
    sandbox.refresh_token()
    assert sandbox.get_token().startswith("eyJ")
    assert sandbox.commands.run("echo refreshed").stdout == "refreshed\n"
    again = Sandbox.connect(sandbox.sandbox_id, **access)
    assert again.commands.run("echo connected").stdout == "connected\n"
    sandbox.kill()
    with pytest.raises(hopx_ai.NotFoundError):
        sandbox.get_info()
    with pytest.raises(hopx_ai.NotFoundError):
        sandbox.kill()


def test_pause_and_resume(access: dict[str, str], built: dict[str, Any]) -> None:
    with Sandbox.create(template=NAME, **access) as made:
        made.files.write("/tmp/kept", "kept")
        made.pause()
        assert made.get_info().status == "paused"
        assert [one.sandbox_id for one in Sandbox.list(status="paused", **access)] == [made.sandbox_id]
        connected = Sandbox.connect(made.sandbox_id, **access)  # resumes it
        assert connected.get_info().status == "running"
        assert connected.files.read("/tmp/kept") == "kept"
        made.pause()
        made.resume()
        assert made.commands.run("cat /tmp/kept").stdout == "kept"


def test_environment_at_creation(access: dict[str, str], built: dict[str, Any]) -> None:
    with Sandbox.create(template=NAME, env_vars={"MINE": "yes"}, **access) as sandbox:
        assert sandbox.commands.run("echo $MINE $GREETING").stdout == "yes hello\n"
        env = sandbox.env.get_all()
        assert (env["MINE"], env["GREETING"]) == ("yes", "hello")
        assert {"PATH", "HOME"} <= set(env)


def test_environment(sandbox: Sandbox) -> None:
    before = sandbox.env.get_all()
    assert sandbox.env.update({"A": "1", "API_TOKEN": "s3cret"})["API_TOKEN"] == "s3cret"
    sandbox.env.set("B", "2")
    assert (sandbox.env.get("A"), sandbox.env.get("B")) == ("1", "2")
    assert sandbox.run_code("import os; print(os.environ['A'] + os.environ['B'])").stdout == "12\n"
    sandbox.env.delete("A")
    assert sandbox.env.get_all() == {**before, "API_TOKEN": "s3cret", "B": "2"}
    assert sandbox.env.set_all({"C": "3"}) == {**before, "C": "3"}
    assert sandbox.run_code("import os; print(os.environ['C'])", env={"C": "4"}).stdout == "4\n"


def test_code(sandbox: Sandbox) -> None:
    done = sandbox.run_code("print('hi')\n{'a': [1]}")
    assert (done.success, done.stdout, done.stderr, done.exit_code) == (True, "hi\n", "", 0)
    assert done.execution_time > 0
    assert [(output.type.value, output.data) for output in done.rich_outputs or ()] == [
        ("application/json", {"application/json": {"a": [1]}})
    ]
    failed = sandbox.run_code("raise KeyError('gone')")
    assert (failed.success, failed.exit_code) == (False, 1)
    assert "KeyError: 'gone'" in failed.stderr
    assert sandbox.run_code("pwd; echo $X", language="bash", env={"X": "1"}).stdout == "/workspace\n1\n"
    assert sandbox.run_code("import os; print(os.getcwd())", working_dir="/app").stdout == "/app\n"
    late = sandbox.run_code("import time; time.sleep(10)", timeout=1)
    assert (late.success, late.exit_code) == (False, 124)
    assert "timed out" in late.stderr
    missing = sandbox.run_code("console.log(1)", language="javascript")
    assert (missing.success, missing.exit_code) == (False, 127)
    with pytest.raises(hopx_ai.HopxError) as refused:
        sandbox.run_code("x", language="cobol")
    assert refused.value.code == "INVALID_REQUEST"


def _ended(sandbox: Sandbox, process_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        item = next(one for one in sandbox.list_processes() if one["process_id"] == process_id)
        if item["status"] != "running":
            return dict(item)
        time.sleep(0.05)
    raise AssertionError(f"{process_id} still runs")


def test_background(sandbox: Sandbox) -> None:
    started = sandbox.run_code_background("print('done')", name="mine", env={"X": "1"})
    job = _ended(sandbox, started["process_id"])
    assert (job["status"], job["name"], job["stdout"], job["exit_code"]) == ("completed", "mine", "done\n", 0)
    endless = sandbox.run_code_background("while True: pass")
    assert endless["process_id"] in [one["process_id"] for one in sandbox.list_processes()]
    assert endless["pid"] in [one["pid"] for one in sandbox.list_system_processes()]
    assert sandbox.kill_process(endless["process_id"])["status"] == "killed"
    assert _ended(sandbox, endless["process_id"])["status"] == "killed"
    sandbox.commands.run("sleep 600", background=True)
    running = [one for one in sandbox.list_processes() if one["command"] and "sleep 600" in one["command"]]
    assert [one["status"] for one in running] == ["running"]
    sandbox.kill_process(str(running[0]["pid"]))
    with pytest.raises(hopx_ai.HopxError) as unknown:
        sandbox.kill_process("proc_unknown")
    assert unknown.value.code == "PROCESS_NOT_FOUND"


def test_asynchronous_code(sandbox: Sandbox) -> None:
    for url in ("http://127.0.0.1/hook", "http://192.0.2.1/", "nonsense"):
        with pytest.raises(hopx_ai.HopxError) as refused:
            sandbox.run_code_async("print(1)", callback_url=url)
        assert refused.value.code == "INVALID_REQUEST"
    started = sandbox.run_code_async("print(1)", callback_url="https://hook.invalid/x")
    assert (started["status"], started["callback_url"]) == ("queued", "https://hook.invalid/x")
    process_id = started["execution_id"].replace("exec_", "proc_")
    assert _ended(sandbox, process_id)["stdout"] == "1\n"


def test_information(sandbox: Sandbox) -> None:
    info = sandbox.get_agent_info()
    assert (info["agent"], info["vm_id"]) == ("thawbox", sandbox.sandbox_id)
    assert info["features"]["languages"] == ["python", "bash", "sh"]
    sandbox.run_code("1/0")
    for metrics in (sandbox.get_metrics_snapshot(), sandbox.get_agent_metrics()):
        assert (metrics["total_executions"], metrics["failed_executions"]) == (1, 1)
        assert metrics["system"]["memory"]["total"] == 512 << 20
    assert sandbox.cache.stats()["hits"] == 0
    assert sandbox.cache.clear()["success"] is True
    assert sandbox.get_jupyter_sessions() == []
    assert 1 in [one["pid"] for one in sandbox.list_system_processes()]


async def test_streamed_code(sandbox: Sandbox) -> None:
    source = "import sys\nfor n in range(3): print(n)\nprint('bad', file=sys.stderr)"
    got = [message async for message in sandbox.run_code_stream(source)]
    assert "".join(one["data"] for one in got if one["type"] == "stdout") == "0\n1\n2\n"
    assert "".join(one["data"] for one in got if one["type"] == "stderr") == "bad\n"
    assert [one["exit_code"] for one in got if one["type"] == "result"] == [0]


def test_errors(access: dict[str, str], built: dict[str, Any]) -> None:
    for wrong in ("hopx_live_" + "A" * 12 + "." + "B" * 43, "nonsense"):
        with pytest.raises(hopx_ai.AuthenticationError) as refused:
            Sandbox.create(template=NAME, api_key=wrong, base_url=access["base_url"])
        assert refused.value.status_code == 401
        assert refused.value.request_id.startswith("req_")
    with pytest.raises(hopx_ai.TemplateNotFoundError, match="python-client") as missing:
        Sandbox.create(template="python-clientt", **access)  # it suggests a name that there is
    assert missing.value.status_code == 404
    with pytest.raises(hopx_ai.NotFoundError):
        Sandbox.create(template_id="999999", **access)
    with pytest.raises(hopx_ai.NotFoundError):
        Sandbox.get_template("no-such-template", **access)
    with pytest.raises(hopx_ai.NotFoundError):
        Sandbox.connect("no-such-sandbox", **access)
    with pytest.raises(hopx_ai.ValidationError):
        Sandbox.create(template=NAME, timeout_seconds=-1, **access)


def test_a_template_in_use_and_its_end(access: dict[str, str], server: Server) -> None:
    body = {
        "alias": "python-client-deleted",
        "memory": 256,
        "steps": [{"type": "from", "image": "debian:12"}],
    }
    with server.client(access["api_key"]) as client:
        template = server.submit(body, client=client)
        assert server.wait(template, client=client)["status"] == "active"
    with Sandbox.create(template_id=template, **access), pytest.raises(hopx_ai.APIError) as used:
        Sandbox.delete_template(template, **access)
    assert used.value.status_code == 409
    assert Sandbox.delete_template(template, **access)["status"] == "deleted"
    with pytest.raises(hopx_ai.NotFoundError):
        Sandbox.get_template(template, **access)


async def test_async_client(access: dict[str, str], built: dict[str, Any]) -> None:
    assert NAME in [template.name for template in await AsyncSandbox.list_templates(**access)]
    assert (await AsyncSandbox.get_template(NAME, **access)).is_active
    async with AsyncSandbox.create(template=NAME, timeout_seconds=600, **access) as sandbox:
        info = await sandbox.get_info()
        assert (info.template_name, info.status, info.timeout_seconds) == (NAME, "running", 600)
        ran = await sandbox.commands.run("echo $GREETING; exit 3")
        assert (ran.exit_code, ran.stdout, ran.success) == (3, "hello\n", False)
        await sandbox.files.write("/workspace/async.txt", "written")
        assert await sandbox.files.read("/workspace/async.txt") == "written"
        await _files_and_terminal_of_the_async_client(sandbox)
        await sandbox.set_timeout(120)
        assert (await sandbox.get_info()).timeout_seconds == 120
        await sandbox.refresh_token()
        await _code_by_the_async_client(sandbox)
        assert sandbox.sandbox_id in [other.sandbox_id for other in await AsyncSandbox.list(**access)]
    with pytest.raises(hopx_ai.NotFoundError):
        await sandbox.get_info()
    with pytest.raises(hopx_ai.AuthenticationError):
        await AsyncSandbox.create(template=NAME, api_key="nonsense", base_url=access["base_url"])
    with pytest.raises(hopx_ai.TemplateNotFoundError):
        await AsyncSandbox.create(template="no-such-template", **access)


async def _files_and_terminal_of_the_async_client(sandbox: AsyncSandbox) -> None:
    data = bytes(range(256))
    await sandbox.files.write_bytes("/workspace/async.bin", data)
    assert await sandbox.files.read_bytes("/workspace/async.bin") == data
    await sandbox.files.mkdir("/workspace/folder")
    listed = {one.name: one.is_directory for one in await sandbox.files.list("/workspace")}
    assert (listed["folder"], listed["async.bin"]) == (True, False)
    await sandbox.files.remove("/workspace/folder")
    assert not await sandbox.files.exists("/workspace/folder")
    assert await _watched(sandbox.files, sandbox.files.watch("/workspace"))
    async with asyncio.timeout(30), await sandbox.terminal.connect() as socket:
        await sandbox.terminal.send_input(socket, "echo $((6*7)); exit 4\n")
        seen = [message async for message in sandbox.terminal.iter_output(socket)]
    assert seen[-1]["code"] == 4
    assert "42" in "".join(message.get("data", "") for message in seen)


async def _code_by_the_async_client(sandbox: AsyncSandbox) -> None:
    done = await sandbox.run_code("print('hi')\n1 + 1")
    assert (done.success, done.stdout) == (True, "hi\n")
    assert (await sandbox.run_code("1/0")).exit_code == 1
    assert (await sandbox.run_code("import time; time.sleep(9)", timeout_seconds=1)).exit_code == 124
    await sandbox.env.set("A", "1")
    await sandbox.env.update({"B": "2"})
    await sandbox.env.delete("A")
    env = await sandbox.env.get_all()
    assert (env.get("A"), env["B"]) == (None, "2")
    assert (await sandbox.env.set_all({"C": "3"}))["C"] == "3"
    started = await sandbox.run_code_background("while True: pass", name="busy")
    running = [
        one for one in await sandbox.list_processes() if one.get("process_id") == started["process_id"]
    ]
    assert [one["status"] for one in running] == ["running"]
    assert (await sandbox.kill_process(started["process_id"]))["status"] == "killed"
    assert (await sandbox.get_metrics_snapshot())["total_executions"] >= 4
    assert (await sandbox.get_agent_info())["agent"] == "thawbox"
    assert (await sandbox.get_agent_metrics())["failed_executions"] >= 2
    assert await sandbox.get_jupyter_sessions() == []
    assert 1 in [one["pid"] for one in await sandbox.list_system_processes()]
    assert (await sandbox.cache.stats())["misses"] == 0
    got = [message async for message in sandbox.run_code_stream("print('streamed')")]
    assert [one["data"] for one in got if one["type"] == "stdout"] == ["streamed\n"]


async def test_machine_from_a_build_result(access: dict[str, str], built: dict[str, Any]) -> None:
    machine = await built["result"].create_vm()
    try:
        assert machine.status == "running"
        assert machine.template_id == built["result"].template_id
        assert httpx.get(machine.agent_url + "/health").status_code == 200
    finally:
        await machine.delete()


def test_the_client_is_the_published_one() -> None:
    assert metadata.version("hopx-ai") == "0.5.0"
