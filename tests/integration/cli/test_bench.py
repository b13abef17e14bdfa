"""``thaw bench``."""

from __future__ import annotations

import json

from tests.support.command_line import Thaw
from tests.support.fake_api import TEMPLATE, Fake
from thawbox.util.percentile import percentile


def test_measures_every_sandbox_and_leaves_none(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.templates = [TEMPLATE]
    result = thaw("bench", "demo", "-n", "5", "--at-once", "2", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["n"] == 5
    assert found["failures"] == []
    created, first = found["created_ms"], found["first_result_ms"]
    assert len(created["samples"]) == len(first["samples"]) == 5
    assert created["p50"] < first["p50"] <= first["p99"] == max(first["samples"])
    assert len(logged_in.requests("POST", "/v1/sandboxes")) == 5
    assert {request.json["command"] for request in logged_in.requests("POST", "/commands/run")} == {"true"}
    assert not logged_in.sandboxes


def test_the_table_has_both_times(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.templates = [TEMPLATE]
    result = thaw("bench", "demo", "-n", "2")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["P50", "P90", "P95", "P99", "MAX", "N"]
    assert lines[1].startswith("created ")
    assert lines[2].startswith("first result ")
    assert "per second" in lines[3]


def test_failures_are_counted_and_make_status_1(logged_in: Fake, thaw: Thaw) -> None:
    logged_in.templates = [TEMPLATE]
    logged_in.command_result = {"stdout": "", "stderr": "", "exit_code": 3, "success": False}
    result = thaw("bench", "demo", "-n", "3", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["n"] == 0
    assert len(found["failures"]) == 3
    assert not logged_in.sandboxes

    logged_in.refuse["POST /v1/sandboxes"] = (429, {"message": "Too many", "code": "RATE_LIMIT_EXCEEDED"})
    refused = thaw("bench", "demo", "-n", "3")
    assert refused.exit_code == 1
    assert "failed 3 times: Too many." in refused.stderr


def test_a_template_that_is_not_there_is_one_sentence(logged_in: Fake, thaw: Thaw) -> None:
    result = thaw("bench", "nope")
    assert result.exit_code == 1
    assert result.stderr == "thaw: Template not found.\n"
    assert not logged_in.requests("POST", "/v1/sandboxes")


def test_percentiles_are_nearest_rank() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile(range(1, 101), 99) == 99
    assert percentile([7], 1) == 7
