"""The published TypeScript client, unmodified: one run of ``typescript/flow.mjs``, looked at from all sides."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system.server import Server

FOLDER = Path(__file__).parent / "typescript"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="needs Node.js and npm"
)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts beside the client that the lock file names."""
    folder = tmp_path_factory.mktemp("typescript") / "program"
    shutil.copytree(FOLDER, folder)
    subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, timeout=300
    )
    installed = json.loads((folder / "node_modules/@hopx-ai/sdk/package.json").read_text())
    assert installed["version"] == "0.5.1"
    return folder


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    """Of the organisation that both scripts work for."""
    return server.new_key("typescript")


@pytest.fixture(scope="module")
def seen(server: Server, program: Path, key: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What ``flow.mjs`` saw."""
    context = tmp_path_factory.mktemp("context")
    (context / "app").mkdir()
    (context / "app" / "main.py").write_text("print('from a folder')\n")
    (context / "note.txt").write_text("from a file")
    return printed_by(program / "flow.mjs", server.url, key, str(context))


@pytest.fixture(scope="module")
def lived(server: Server, program: Path, key: str, seen: dict[str, Any]) -> dict[str, Any]:
    """What ``live.mjs`` saw in a sandbox of the template that ``flow.mjs`` built."""
    return printed_by(program / "live.mjs", server.url, key, seen["ids"][1])


def printed_by(script: Path, *arguments: str) -> dict[str, Any]:
    """The object that the script printed last."""
    done = subprocess.run(
        ["node", str(script), *arguments], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_build(seen: dict[str, Any]) -> None:
    build, template = seen["ids"]
    assert build == template
    assert seen["duration"] > 0
    assert seen["progress"][-1] == 100
    assert any("RUN cat note.txt" in line for line in seen["logs"])
    assert seen["whole"] == {"status": "active", "complete": True}
    assert seen["rest"] == ""


def test_builds_that_are_refused_or_fail(seen: dict[str, Any]) -> None:
    assert "A template with alias 'typescript-client' already exists" in seen["taken"]["message"]
    assert seen["failed"]["class"] == "TemplateBuildError"
    assert "exit status 3" in seen["failed"]["message"]


def test_templates(seen: dict[str, Any]) -> None:
    assert "typescript-client" in seen["listed"]
    assert seen["template"] == {"id": seen["ids"][1], "status": "active", "isActive": True}
    assert seen["health"] == "ok"


def test_sandbox(seen: dict[str, Any]) -> None:
    assert seen["info"] == {"id": seen["id"], "status": "running", "template": "typescript-client"}
    assert seen["id"] in seen["running"]
    assert seen["timeout"] == 120
    assert seen["connected"] == "connected\n"


def test_what_was_built_is_inside(seen: dict[str, Any]) -> None:
    lines = ["from a folder", "from a filehello", "daemon 750", "hello"]
    assert seen["inside"] == {"code": 0, "lines": lines}


def test_commands_and_files(seen: dict[str, Any]) -> None:
    assert seen["bad"] == {"code": 7, "stdout": "out\n", "stderr": "err\n"}
    assert seen["read"] == "häß\n"
    assert seen["missingFile"]["class"] == "FileNotFoundError"


def test_files(seen: dict[str, Any]) -> None:
    assert (seen["bytes"], seen["upload"], seen["exists"], seen["removed"]) == (True, True, True, True)
    listed = seen["listed_files"]
    assert (listed["folder"], listed["bytes"], listed["up load.mjs"]) == (True, False, False)


def test_terminal(seen: dict[str, Any]) -> None:
    assert seen["terminal"]["exit"] == 3
    assert "43 132" in seen["terminal"]["printed"]
    assert [f"line-{number}" for number in range(1, 51)] == re.findall(
        r"^line-\d+$", seen["terminal"]["printed"].replace("\r", ""), re.MULTILINE
    )


def test_watched_folder(seen: dict[str, Any]) -> None:
    assert seen["change"] in ("created", "modified")


def test_errors(seen: dict[str, Any]) -> None:
    assert seen["wrongKey"]["class"] == "AuthenticationError"
    assert seen["gone"]["class"] == "SandboxExpiredError"  # how it takes a sandbox that is not found
    assert seen["noSandbox"]["class"] == "SandboxExpiredError"
    assert seen["noTemplate"] is not None
    for name in ("wrongKey", "gone", "noSandbox", "noTemplate"):
        assert seen[name]["requestId"].startswith("req_")


def test_code(lived: dict[str, Any]) -> None:
    assert lived["code"] == {
        "success": True,
        "stdout": "yes too\n",
        "stderr": "",
        "exit_code": 0,
        "result": "42",
    }
    assert (lived["fails"]["exit_code"], lived["fails"]["stdout"]) == (1, "before\n")
    assert "ZeroDivisionError" in lived["fails"]["stderr"]
    assert (lived["late"]["success"], lived["late"]["exit_code"]) == (False, 124)
    assert (lived["bash"]["exit_code"], lived["bash"]["stdout"]) == (3, "yes\n/tmp\n")
    assert (lived["lacking"]["success"], lived["lacking"]["exit_code"]) == (False, 127)
    assert lived["unknown"]["code"] == "INVALID_REQUEST"
    assert (lived["ipython"]["success"], lived["kernels"]) == (False, [])
    assert "ipykernel" in lived["ipython"]["stderr"]


def test_streamed_code_arrives_whole(lived: dict[str, Any]) -> None:
    stream = lived["stream"]
    assert stream["stdout"] == "".join(f"{number}\n" for number in range(100))
    assert (stream["stderr"], stream["result"]) == ("e\n", 0)
    assert (stream["last"]["type"], stream["last"]["success"]) == ("complete", True)


def test_background_jobs(lived: dict[str, Any]) -> None:
    assert lived["job"] == {"started": "running", "listed": "running", "name": "sleeper"}
    assert lived["killed"]
    assert lived["command"]
    assert lived["noProcess"]["code"] == "PROCESS_NOT_FOUND"
    assert lived["system"]


def test_environment(lived: dict[str, Any]) -> None:
    env = lived["env"]
    assert (env["fresh"], env["path"], env["updated"], env["inCommands"]) == ("yes", True, "1", "12\n")
    assert env["deleted"] is None
    assert env["replaced"].startswith("-this\n/")  # without the others, but PATH still finds programs


def test_what_a_sandbox_tells_of_itself(lived: dict[str, Any]) -> None:
    assert lived["cache"]["stats"]
    assert "nothing was cleared" in lived["cache"]["cleared"]  # there is none
    assert lived["metrics"] > 0
    assert lived["agent"]
    assert lived["health"] == {"status": "healthy", "healthy": True}
    assert lived["expiry"]
    assert lived["desktop"]["class"] == "DesktopNotAvailableError"


def test_pause_and_resume(lived: dict[str, Any]) -> None:
    assert lived["paused"] == "paused"
    assert lived["resumed"] == {"status": "running", "file": "kept\n"}
    assert lived["walked"]
