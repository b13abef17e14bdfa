"""``thaw build``."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Thaw
from tests.support.fake_api import Fake
from thawbox.cli.client import Unreachable
from thawbox.cli.follow import follow

RECIPE = "name: demo\nsteps:\n  - {type: from, image: 'debian:12'}\n  - {type: run, command: 'true'}\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


def body(server: Fake) -> Any:
    (request,) = server.requests("POST", "/v1/templates/build")
    return request.json


def test_shows_the_log_as_it_grows_and_ends_with_name_id_and_seconds(
    logged_in: Fake, thaw: Thaw, recipe: Path
) -> None:
    logged_in.build_script = [("one\n", "building"), ("two CACHED\n", "building"), ("three\n", "active")]
    result = thaw("build", str(recipe))
    assert result.exit_code == 0
    *log, last = result.stdout.splitlines()
    assert log == ["one", "two CACHED", "three"]
    assert last.startswith("demo is ready: template 7, ")
    assert last.endswith("s")


def test_sends_the_recipe_as_it_is_written(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    thaw("build", str(recipe))
    assert body(logged_in) == {
        "name": "demo",
        "steps": [{"type": "from", "image": "debian:12"}, {"type": "run", "command": "true"}],
    }


def test_options_go_into_the_request(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    thaw("build", str(recipe), "--name", "other", "--update", "--no-cache")
    sent = body(logged_in)
    assert (sent["name"], sent["update"], sent["skipCache"]) == ("other", True, True)


def test_a_name_in_the_alias_dialect_stays_in_it(logged_in: Fake, thaw: Thaw, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text('{"alias": "old", "steps": []}')
    thaw("build", str(file), "--name", "new")
    assert body(logged_in) == {"alias": "new", "steps": []}


def test_reads_standard_input(logged_in: Fake, thaw: Thaw) -> None:
    assert thaw("build", "-", stdin=RECIPE).exit_code == 0
    assert body(logged_in)["name"] == "demo"


def test_a_failed_build_ends_with_its_reason_and_status_1(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    logged_in.build_script = [("step 1\n", "failed")]
    logged_in.error_message = "Step 2 (run): exit status 100\nE: Unable to locate package nope"
    result = thaw("build", str(recipe))
    assert result.exit_code == 1
    assert "demo failed after" in result.stderr
    assert "Step 2 (run): exit status 100" in result.stderr
    assert "ready" not in result.stdout


@pytest.mark.parametrize(("status", "code"), [("active", 0), ("failed", 1)])
def test_json_is_alone_on_standard_output(
    logged_in: Fake, thaw: Thaw, recipe: Path, status: str, code: int
) -> None:
    logged_in.build_script = [("the log\n", status)]
    logged_in.error_message = None if code == 0 else "why"
    result = thaw("build", str(recipe), "--json")
    assert result.exit_code == code
    printed = json.loads(result.stdout)
    assert printed.pop("seconds") >= 0
    assert printed == {
        "name": "demo",
        "template_id": "7",
        "build_id": "7",
        "status": status,
        "error_message": logged_in.error_message,
    }
    assert "the log" in result.stderr


def test_what_a_step_prints_cannot_steer_the_terminal(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    logged_in.build_script = [
        ("\x1b]0;title\x07\x1b[2Jevil\x9b5n [bold]kept[/bold]\n10%\r50%\r100%\n", "active")
    ]
    lines = thaw("build", str(recipe)).stdout.splitlines()
    assert lines[:2] == ["evil5n [bold]kept[/bold]", "100%"]


def test_without_a_name_is_wrong_usage(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("build", "-", stdin="steps: []")
    assert result.exit_code == 2
    assert "--name" in result.stderr
    assert not logged_in.seen


def test_build_arguments_need_a_dockerfile(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    result = thaw("build", str(recipe), "--build-arg", "A=1")
    assert result.exit_code == 2
    assert "--build-arg" in result.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("[1, 2]", "top level must be a mapping"), ("a: [", "neither JSON nor YAML"), ("", "is not a recipe")],
)
def test_what_is_no_recipe_is_refused_here(
    logged_in: Fake, thaw: Thaw, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    result = thaw("build", str(file))
    assert result.exit_code == 1
    assert said in result.stderr
    assert not logged_in.seen


def test_bytes_that_are_no_text_are_refused_here(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("build", "-", stdin=b"\xff\xfe")
    assert result.exit_code == 1
    assert "not UTF-8" in result.stderr


def test_a_dockerfile_becomes_a_request(logged_in: Fake, thaw: Thaw, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("ARG V=1\nFROM python:3.11\nARG V\nLABEL a=b\nRUN echo hi\nENV A=$V\n")
    result = thaw("build", str(file), "--name", "web", "--build-arg", "V=2")
    assert result.exit_code == 0
    sent = body(logged_in)
    assert (sent["name"], sent["from_image"]) == ("web", "python:3.11")
    assert [step["type"] for step in sent["steps"]][-1] == "env"
    assert "2" in json.dumps(sent["steps"][-1])
    assert "warning:" in result.stderr
    assert "LABEL" in result.stderr


def test_a_dockerfile_on_standard_input_is_known_by_its_start(logged_in: Fake, thaw: Thaw) -> None:
    assert thaw("build", "-", "--name", "web", stdin="# a comment\n\nFROM debian:12\n").exit_code == 0
    assert body(logged_in)["from_image"] == "debian:12"


def test_what_a_dockerfile_cannot_have_is_refused_by_name(
    logged_in: Fake, thaw: Thaw, tmp_path: Path
) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:12\nHEALTHCHECK CMD true\n")
    result = thaw("build", str(file), "--name", "web")
    assert result.exit_code == 1
    assert "HEALTHCHECK" in result.stderr
    assert not logged_in.seen


def test_files_for_copy_are_sent_first_and_named_by_their_hash(
    logged_in: Fake, thaw: Thaw, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("print(1)")
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "name: demo\nsteps:\n- {type: from, image: 'debian:12'}\n- {type: copy, src: [app], dest: /app}\n"
        "- {type: copy, src: gone, dest: /x, filesHash: '12'}\n"
    )
    assert thaw("build", str(file)).exit_code == 0
    (put,) = [request for request in logged_in.seen if request.method == "PUT"]
    (link,) = logged_in.requests("POST", "/v1/templates/files/upload-link")
    digest = link.json["files_hash"]
    assert len(digest) == 64
    assert link.json["content_length"] == len(put.body) == int(put.headers["content-length"])
    assert put.path == f"/uploads/{digest}"
    assert "authorization" not in put.headers
    assert put.headers["content-type"] == "application/gzip"
    with tarfile.open(fileobj=io.BytesIO(put.body)) as archive:
        assert "app/main.py" in archive.getnames()
    steps = body(logged_in)["steps"]
    assert steps[1]["filesHash"] == digest
    assert steps[2]["filesHash"] == "12"


def test_a_source_that_is_missing_is_named(logged_in: Fake, thaw: Thaw, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:12\nCOPY nowhere.txt /\n")
    result = thaw("build", str(file), "--name", "web")
    assert result.exit_code == 1
    assert "nowhere.txt" in result.stderr
    assert not logged_in.requests("POST", "/v1/templates/build")


def test_a_name_that_is_taken_says_what_to_do(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    logged_in.refuse["POST /v1/templates/build"] = (
        409,
        {
            "error": "Template alias already exists",
            "message": "A template with alias 'demo' already exists",
            "code": "ALREADY_EXISTS",
        },
    )
    result = thaw("build", str(recipe))
    assert result.exit_code == 1
    assert "alias 'demo' already exists" in result.stderr
    assert "--update" in result.stderr


def test_the_quota_says_when_to_come_back(logged_in: Fake, thaw: Thaw, recipe: Path) -> None:
    logged_in.refuse["POST /v1/templates/build"] = (
        429,
        {"error": "Rate limit exceeded", "message": "10 builds per hour", "retry_after": 77},
    )
    assert "10 builds per hour. Try again in 77 s." in thaw("build", str(recipe)).stderr


class Flaky:
    """A server that is away for the first ``away`` calls."""

    def __init__(self, away: int) -> None:
        self.away = away

    def call(self, _method: str, path: str, **_extra: Any) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            raise Unreachable("away")
        if path.endswith("/logs"):
            return {"logs": "", "offset": 0}
        return {"status": "active"}


def test_following_outlives_a_restart_of_the_server() -> None:
    pauses: list[float] = []
    status = follow(
        Flaky(3),  # type: ignore[arg-type]
        "7",
        on_lines=lambda _: None,
        on_status=lambda _: None,
        pause=pauses.append,
    )
    assert status["status"] == "active"
    assert len(pauses) == 3


def test_following_gives_up_on_a_server_that_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def pause(_seconds: float) -> None:
        nonlocal now
        now += 10

    monkeypatch.setattr("thawbox.cli.follow.time.monotonic", lambda: now)
    with pytest.raises(Unreachable):
        follow(Flaky(10_000), "7", on_lines=lambda _: None, on_status=lambda _: None, pause=pause)  # type: ignore[arg-type]
