"""``thaw run``."""

from __future__ import annotations

import base64

import pytest

from .conftest import Thaw
from .fake import Fake


def test_passes_output_and_status_through_and_deletes_the_sandbox(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = {"out": b"out\n", "err": b"err\n"}
    logged_in.command_result["exit_code"] = 3
    result = thaw("run", "hello", "--", "ls", "--all", "-l")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 3)
    (command,) = logged_in.requests("POST", "/commands/run")
    assert command.json["args"][-3:] == ["ls", "--all", "-l"]
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
    assert logged_in.requests("POST", "/commands/run")[0].json["timeout"] == 5


def test_keep_leaves_the_sandbox_and_names_it_beside_the_output(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = {"out": b"out"}
    result = thaw("run", "hello", "--keep", "--", "true")
    assert (result.stdout, result.stderr) == ("out", "sandbox0\n")
    assert list(logged_in.sandboxes) == ["sandbox0"]
    assert "timeout_seconds" not in logged_in.requests("POST", "/v1/sandboxes")[0].json


def test_keep_without_a_command_prints_just_the_id(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("run", "hello", "--keep")
    assert (result.stdout, result.exit_code) == ("sandbox0\n", 0)
    assert not logged_in.requests("POST", "/commands/run")


def test_piped_input_arrives_byte_for_byte(logged_in: Fake, thaw: Thaw) -> None:
    content = bytes(range(256))
    thaw("run", "hello", "--", "sha256sum", stdin=content)
    (write,) = logged_in.requests("POST", "/files/write")
    assert base64.b64decode(write.json["content"]) == content
    assert write.json["encoding"] == "base64"
    (command,) = logged_in.requests("POST", "/commands/run")
    assert command.json["command"] == "/bin/sh"
    prefix, program = command.json["args"][-2:]
    assert (prefix + ".in", program) == (write.json["path"], "sha256sum")


def test_output_arrives_byte_for_byte(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = {"out": bytes(range(256)), "err": b"\xff"}
    result = thaw("run", "hello", "--", "cat", "/bin/ls")
    assert (result.stdout_bytes, result.stderr_bytes) == (bytes(range(256)), b"\xff")


def test_what_shell_and_gateway_remark_is_shown(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.output = {"out": b"partly"}
    logged_in.command_result = {"stderr": "[timed out after 5 s]\n", "exit_code": 124}
    result = thaw("run", "hello", "--timeout", "5", "--", "sleep", "9")
    assert (result.stdout, result.stderr, result.exit_code) == ("partly", "[timed out after 5 s]\n", 124)


def test_more_output_than_can_be_fetched_is_said(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.refuse["GET /files/read"] = (413, {"error": "Too large"})
    result = thaw("run", "hello", "--", "yes")
    assert result.exit_code == 1
    assert "printed more than" in result.stderr
    assert not logged_in.sandboxes


def test_without_a_command_piped_input_is_a_script(logged_in: Fake, thaw: Thaw) -> None:
    thaw("run", "hello", stdin="echo hi\n")
    (command,) = logged_in.requests("POST", "/commands/run")
    assert command.json["args"][-1] == "/bin/sh"


def test_a_gateway_that_refuses_is_a_failure_and_the_sandbox_is_deleted(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.refuse["POST /commands/run"] = (503, {"error": "Sandbox unavailable", "request_id": "req_9"})
    result = thaw("run", "hello", "--", "true")
    assert result.exit_code == 1
    assert "Sandbox unavailable (request req_9" in result.stderr
    assert not logged_in.sandboxes


def test_a_sandbox_that_cannot_be_deleted_is_named_and_the_status_stays(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.command_result["exit_code"] = 4
    logged_in.refuse["DELETE /v1/sandboxes/sandbox0"] = (500, {"error": "Internal error"})
    result = thaw("run", "hello", "--", "false")
    assert result.exit_code == 4
    assert "sandbox sandbox0 is not deleted: Internal error" in result.stderr


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
