"""Why a step was not cached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from thawbox.builder import history
from thawbox.builder.history import StepRecord, why_missed
from thawbox.state import Layout

OLD = StepRecord(below="chain", identity="step", content="files")
FIRST = StepRecord(below="base", identity="first", content="")


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (replace(OLD, content="other", identity="other"), "the copied files changed"),
        (replace(OLD, identity="other", below="other"), "the step changed"),
        (replace(OLD, below="other"), "the base image or a step before it changed"),
        (OLD, "no longer in the cache"),
    ],
)
def test_the_input_that_changed_is_named(new: StepRecord, reason: str) -> None:
    before = [FIRST, OLD, StepRecord("later", "later", "later")]
    assert why_missed(before, [FIRST, new], forced=False, missed_before=False) == reason


def test_a_step_that_the_last_build_did_not_have() -> None:
    assert why_missed([FIRST], [FIRST, OLD], forced=False, missed_before=False) == "first time"
    assert why_missed([], [FIRST], forced=False, missed_before=False) == "first time"


def test_reasons_before_any_input() -> None:
    assert why_missed([OLD], [OLD], forced=True, missed_before=True) == "skipCache"
    assert why_missed([OLD], [OLD], forced=False, missed_before=True) == "a step before it was run again"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path)
    made.make()
    return made


def test_steps_are_kept_per_template(layout: Layout) -> None:
    history.save(layout, 1, [FIRST, OLD])
    history.save(layout, 2, [OLD])
    assert history.load(layout, 1) == [FIRST, OLD]
    assert history.load(layout, 2) == [OLD]
    history.forget(layout, 1)
    history.forget(layout, 1)
    assert history.load(layout, 1) == []
    assert [path.name for path in layout.logs.iterdir()] == ["2.steps.json"]


@pytest.mark.parametrize("content", ["{", '[{"below": "x"}]', "[1]"])
def test_damaged_records_count_as_none(layout: Layout, content: str) -> None:
    (layout.logs / "1.steps.json").write_text(content)
    assert history.load(layout, 1) == []
