"""``thaw run``."""

from __future__ import annotations

import pytest

from tests.support.command_line import Thaw
from tests.support.fake_api import Fake


def test_passes_output_and_status_through_and_deletes_the_sandbox(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = [("stdout", b"out\n"), ("stderr", b"err\n")]
    logged_in.command_result["exit_code"] = 3
    result = thaw("run", "hello", "--", "ls", "--all", "-l")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    (command,) = logged_in.requests("WS", "/commands/stream")
    assert (command.json["command"], command.json["args"]) == ("ls", ["--all", "-l"])
    assert command.json["timeout"] == 3600
    assert command.headers["authorization"] == "Bearer eyJ.token"
    assert not logged_in.sandboxes


def test_asks_for_the_template_with_environment_and_a_lifetime(logged_in: Fake, thaw: Thaw) -> None:
    thaw("run", "hello", "--env", "A=1", "--env", "B=x=y", "--timeout", "5", "--", "env")
    (create,) = logged_in.requests("POST", "/v1/sandboxes")
    assert create.json == {
        "template_name": "hello",
        "env_vars": {"A": "1", "B": "x=y"},
        "timeout_seconds": 65,
    }
    assert logged_in.requests("WS", "/commands/stream")[0].json["timeout"] == 5


def test_keep_leaves_the_sandbox_and_names_it_beside_the_output(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = [("stdout", b"out")]
    result = thaw("run", "hello", "--keep", "--", "true")
    assert (result.stdout, result.stderr) == ("out", "sandbox0\n")
    assert list(logged_in.sandboxes) == ["sandbox0"]
    assert "timeout_seconds" not in logged_in.requests("POST", "/v1/sandboxes")[0].json


def test_keep_without_a_command_prints_just_the_id(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("run", "hello", "--keep")
    assert (result.stdout, result.exit_code) == ("sandbox0\n", 0)
    assert not logged_in.requests("WS", "/commands/stream")


def test_piped_input_arrives_byte_for_byte(logged_in: Fake, thaw: Thaw) -> None:
    content = bytes(range(256))
    thaw("run", "hello", "--", "sha256sum", stdin=content)
    assert logged_in.typed == content


def test_output_arrives_byte_for_byte(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = [("stdout", bytes(range(256))), ("stderr", b"\xff"), ("stdout", b"\xc3")]
    result = thaw("run", "hello", "--", "cat", "/bin/ls")
    assert (result.stdout_bytes, result.stderr_bytes) == (bytes(range(256)) + b"\xc3", b"\xff")


def test_a_sandbox_that_ends_under_the_command_is_said_once(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = [("stdout", b"partly")]
    logged_in.stream_error = {"error": "Sandbox s has ended: out of memory.", "code": "SANDBOX_ENDED"}
    result = thaw("run", "hello", "--", "hog")
    assert (result.stdout, result.stderr, result.exit_code) == (
        "partly",
        "thaw: Sandbox s has ended: out of memory.\n",
        137,
    )
    assert not logged_in.sandboxes


def test_what_cannot_be_run_is_one_sentence(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.stream_error = {"error": "This cannot be run: no.", "code": "INVALID_REQUEST"}
    result = thaw("run", "hello", "--", "x")
    assert (result.stderr, result.exit_code) == ("thaw: This cannot be run: no.\n", 1)


def test_without_a_command_piped_input_is_a_script(logged_in: Fake, thaw: Thaw) -> None:
    thaw("run", "hello", stdin="echo hi\n")
    (command,) = logged_in.requests("WS", "/commands/stream")
    assert (command.json["command"], command.json["args"]) == ("/bin/sh", [])
    assert logged_in.typed == b"echo hi\n"


def test_a_gateway_that_refuses_is_a_failure_and_the_sandbox_is_deleted(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.refuse["WS /commands/stream"] = (503, {"message": "Sandbox s is starting."})
    result = thaw("run", "hello", "--", "true")
    assert (result.stderr, result.exit_code) == (
        "thaw: The sandbox refuses the command: Sandbox s is starting.\n",
        1,
    )
    assert not logged_in.sandboxes


def test_a_sandbox_that_cannot_be_deleted_is_named_and_the_status_stays(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.command_result["exit_code"] = 4
    logged_in.refuse["DELETE /v1/sandboxes/sandbox0"] = (500, {"error": "Internal error"})
    result = thaw("run", "hello", "--", "false")
    assert result.exit_code == 4
    assert "sandbox sandbox0 was not deleted: Internal error" in result.stderr


def test_an_unknown_template_is_one_sentence(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.refuse["POST /v1/sandboxes"] = (
        404,
        {"error": "Template not found", "message": "Template 'nope' does not exist"},
    )
    result = thaw("run", "nope", "--", "true")
    assert (result.exit_code, result.stderr) == (1, "thaw: Template 'nope' does not exist.\n")


@pytest.mark.parametrize("arguments", [["--env", "A"], ["--env", "=1"], ["--timeout", "0"]])
def test_wrong_options_are_wrong_usage(logged_in: Fake, thaw: Thaw, arguments: list[str]) -> None:
    assert thaw("run", "hello", *arguments, "--", "true").exit_code == 2
    assert not logged_in.seen
