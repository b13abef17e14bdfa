from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from thawbox import log
from thawbox.settings import load


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_carry_the_request_and_hide_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(load(log_json=True))
    structlog.contextvars.bind_contextvars(request_id="req_1")
    log.get("x").info(
        "asked", auth_token="eyJ", nested={"Password": "p", "name": "n"}, env_vars={"A": "s3cret"}, fine=1
    )
    (line,) = lines(capsys)
    assert (line["event"], line["request_id"], line["fine"], line["level"]) == ("asked", "req_1", 1, "info")
    assert (line["auth_token"], line["env_vars"]) == (log.HIDDEN, log.HIDDEN)
    assert line["nested"] == {"Password": log.HIDDEN, "name": "n"}


def test_traceback_is_in_the_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(load(log_json=True))
    log.get("x").error("broke", exc_info=ZeroDivisionError("why"))
    (line,) = lines(capsys)
    assert "ZeroDivisionError: why" in str(line["exception"])


def test_libraries_speak_only_when_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(load(log_json=True))
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("careful %s", "now")
    assert [line["event"] for line in lines(capsys)] == ["careful now"]


def test_level_is_respected_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(load(log_json=True, log_level="warning"))
    log.get("x").info("quiet")
    assert lines(capsys) == []
    with pytest.raises(ValueError, match="loud"):
        log.configure(load(log_level="loud"))


def test_people_get_text(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(load(log_json=False))
    log.get("x").info("hello", key_id="k")
    assert "hello" in capsys.readouterr().err


def test_a_log_on_a_full_disk_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr("sys.stderr", full)
        log.configure(load(log_json=True))
        log.get("x").info("asked")
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.close()
