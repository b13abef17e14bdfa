"""Builds end to end: recipe in, thawed sandbox out."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from .helpers.recipes import recipe, run
from .server import Server


def steps_log(log: str) -> list[str]:
    """One line per step, as the log says it."""
    return [line for line in log.splitlines() if re.match(r"(CACHED )?\[\d+/\d+\] [A-Z]+ ", line)]


def test_what_steps_leave_behind_is_in_the_sandbox(server: Server) -> None:
    build = server.build(
        recipe(
            "everything",
            run("echo made > /srv/file && ln -s file /srv/link && rm /etc/issue.net"),
            {"type": "env", "key": "GREETING", "value": "hello"},
            {"type": "workdir", "path": "/work/inner"},
            run("echo $GREETING > here"),
            {"type": "USER", "args": ["daemon"]},
            run("id -un > /tmp/who"),
        )
    )
    record = server.api.get("/v1/templates/everything").json()
    assert (record["id"], record["status"], record["is_active"]) == (build, "active", True)
    with server.create("everything", env_vars={"MINE": "yes"}) as sandbox:
        assert sandbox.out("cat /srv/link") == "made"
        assert sandbox.out("test -e /etc/issue.net || echo gone") == "gone"
        assert sandbox.out("cat here; pwd", workdir="/work/inner") == "hello\n/work/inner"
        assert sandbox.out("cat /tmp/who; id -un") == "daemon\ndaemon"
        assert sandbox.out("echo $GREETING $MINE") == "hello yes"


def test_apt_step(server: Server) -> None:
    server.build(recipe("with-jq", {"type": "apt", "packages": ["jq"]}))
    with server.create("with-jq") as sandbox:
        assert sandbox.out("echo '{\"a\": 1}' | jq .a") == "1"


def test_the_same_recipe_again_runs_nothing(server: Server) -> None:
    steps = (run("date +%s%N > /stamp"), run("cp /stamp /stamp2"))
    server.build(recipe("cached-1", *steps))
    log = server.log_of(server.build(recipe("cached-2", *steps)))
    assert all(line.startswith("CACHED") for line in steps_log(log)), log
    assert "snapshot: CACHED" in log


def test_a_changed_step_rebuilds_itself_and_what_follows(server: Server) -> None:
    first = [run("echo one > /1"), run("echo two > /2"), run("cat /1 /2 > /3")]
    server.build(recipe("changing", *first))
    first[1] = run("echo zwei > /2")
    log = server.log_of(server.build(recipe("changing", *first, update=True)))
    kept, changed, after = steps_log(log)
    assert kept.startswith("CACHED")
    assert changed.endswith("(the step changed)")
    assert after.endswith("(a step before it was run again)")
    with server.create("changing") as sandbox:
        assert sandbox.out("cat /3") == "one\nzwei"


def test_skip_cache_of_a_step_and_of_all(server: Server) -> None:
    steps = [run("date +%s%N > /1"), run("date +%s%N > /2")]

    def stamps(name: str, **fields: Any) -> tuple[str, str]:
        server.build(recipe(name, *steps, **fields))
        with server.create(name) as sandbox:
            one, two = sandbox.out("cat /1 /2").split()
            return one, two

    first = stamps("skip-1")
    assert stamps("skip-2") == first
    steps[1]["skipCache"] = True
    second = stamps("skip-3")
    assert second[0] == first[0]
    assert second[1] != first[1]
    third = stamps("skip-4", skipCache=True)
    assert third[0] != first[0]
    del steps[1]["skipCache"]
    assert stamps("skip-5") == third  # what was built last is what the cache holds


def test_builds_of_the_same_step_do_the_work_once(server: Server) -> None:
    steps = [run("sleep 1; date +%s%N > /stamp")]
    builds = [server.submit(recipe(f"together-{number}", *steps)) for number in range(3)]
    assert [server.wait(build)["status"] for build in builds] == ["active"] * 3
    stamps = set()
    for number in range(3):
        with server.create(f"together-{number}") as sandbox:
            stamps.add(sandbox.out("cat /stamp"))
    assert len(stamps) == 1


def test_an_organisations_steps_are_its_own(server: Server) -> None:
    steps = (run("date +%s%N > /stamp"),)
    server.build(recipe("private-steps", *steps))
    with server.client(server.new_key("others")) as other:
        build = server.submit(recipe("private-steps", *steps), client=other)
        assert server.wait(build, client=other)["status"] == "active"
        log = other.get(f"/v1/templates/build/{build}/logs").json()["logs"]
        assert not steps_log(log)[0].startswith("CACHED")
        assert "CACHED FROM" in log
        for path in (
            "/v1/templates/changing",
            "/v1/templates/build/1/status",
            "/v1/templates/build/1/logs",
        ):
            assert other.get(path).status_code == 404


def test_update_replaces_and_leaves_running_sandboxes_alone(server: Server) -> None:
    server.build(recipe("replaced", run("echo old > /version")))
    refused = server.api.post("/v1/templates/build", json=recipe("replaced"))
    assert refused.status_code == 409
    assert refused.json()["error"] == "Template alias already exists"
    assert refused.json()["message"] == "A template with alias 'replaced' already exists"
    versions = {path.name for path in (server.state / "snapshots").iterdir()}
    with server.create("replaced") as old:
        build = server.build(recipe("replaced", run("echo new > /version"), update=True))
        assert server.api.get("/v1/templates/replaced").json()["id"] == build
        with server.create("replaced") as new:
            assert (old.out("cat /version"), new.out("cat /version")) == ("old", "new")
        during = {path.name for path in (server.state / "snapshots").iterdir()}
    after = {path.name for path in (server.state / "snapshots").iterdir()}
    assert len(during) == len(versions) + 1  # both versions
    assert len(after) == len(versions)  # the old one went with its last sandbox


READY = [
    ("python3 -c 'import socket,time; s=socket.create_server((\"\",8000)); time.sleep(1e6)'", "port", 8000),
    ("cd /srv && python3 -m http.server 8001", "url", "http://127.0.0.1:8001/"),
    ("sleep 1; touch /tmp/up; sleep 100000", "file", "/tmp/up"),
    ("sleep 100000", "process", "sleep"),
    ("sleep 1; touch /tmp/up; sleep 100000", "command", "test -e /tmp/up"),
]


@pytest.mark.parametrize(("start", "kind", "target"), READY, ids=[kind for _, kind, _ in READY])
def test_start_command_is_up_in_every_sandbox(server: Server, start: str, kind: str, target: Any) -> None:
    field = {"process": "processName"}.get(kind, kind if kind != "file" else "path")
    body = recipe(
        f"ready-{kind}",
        {"type": "apt", "packages": ["python3-minimal"]},
        startCmd=start,
        readyCmd={"type": kind, field: target, "timeout": 20000},
    )
    server.build(body)
    with server.create(f"ready-{kind}") as sandbox:
        checks = {
            "port": "bash -c '</dev/tcp/127.0.0.1/8000'",
            "url": "bash -c '</dev/tcp/127.0.0.1/8001'",
            "process": "grep -l sleep /proc/[0-9]*/comm",
        }
        assert sandbox.run(checks.get(kind, "test -e /tmp/up"))["exit_code"] == 0


def test_copy_step_in_both_forms_of_upload(server: Server) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        folder = tarfile.TarInfo("app/")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        for name, content in {"app/main.py": b"print('hi')", "app/data/x": b"x"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = archive.getvalue()
    digest = "ab" * 32
    link = server.api.post(
        "/v1/templates/files/upload-link", json={"files_hash": digest, "content_length": len(data)}
    ).json()
    assert link["present"] is False
    assert httpx.put(link["upload_url"], content=data).status_code < 300
    single = server.api.post(
        "/v1/templates/files/upload-link",
        json={
            "files": [
                {"path": "conf/a.txt", "size": 3, "hash": "sha256:" + hashlib.sha256(b"abc").hexdigest()}
            ]
        },
    ).json()["upload_urls"][0]
    assert httpx.put(single["upload_url"], content=b"abc").status_code < 300
    body = recipe(
        "copied",
        {"type": "COPY", "args": ["app/", "/app/"], "filesHash": digest},
        {"type": "copy", "src": ["conf/a.txt"], "dest": "/etc/conf/"},
        run("cat /app/main.py /app/data/x /etc/conf/a.txt > /all"),
    )
    server.build(body)
    with server.create("copied") as sandbox:
        assert sandbox.out("cat /all") == "print('hi')xabc"
    log = server.log_of(server.build({**body, "name": "copied-2", "alias": "copied-2"}))
    assert all(line.startswith("CACHED") for line in steps_log(log))


def test_logs_by_offset_and_as_events(server: Server) -> None:
    build = server.submit(recipe("logged", run("for i in 1 2 3; do echo line $i; sleep 0.3; done")))
    text, offset = "", 0
    while True:
        page = server.api.get(f"/v1/templates/build/{build}/logs", params={"offset": offset}).json()
        assert page["logs"] == "" or page["logs"].endswith("\n")
        text, offset = text + page["logs"], page["offset"]
        assert offset == len(text)
        if page["complete"]:
            break
    assert text == server.log_of(build)
    assert [line for line in text.splitlines() if line.startswith("line ")] == ["line 1", "line 2", "line 3"]
    with server.api.stream(
        "GET", f"/v1/templates/build/{build}/logs", headers={"Accept": "text/event-stream"}
    ) as events:
        body = "".join(events.iter_text())
    assert 'event: done\ndata: {"status":"active"}' in body.replace('": "', '":"')


def test_side_by_side(server: Server) -> None:
    with ThreadPoolExecutor(6) as pool:
        names = [f"side-{number}" for number in range(6)]
        list(pool.map(lambda name: server.build(recipe(name, run(f"echo {name} > /name"))), names))
    for name in names:
        with server.create(name) as sandbox:
            assert sandbox.out("cat /name") == name
