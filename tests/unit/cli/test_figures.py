"""The quickstart's table."""

from __future__ import annotations

from thawbox.builder.timings import BuildTimings
from thawbox.cli.figures import phase_figures


def test_steps_are_listed_with_their_time_or_as_cached() -> None:
    timings = BuildTimings({"base": 0.01, "steps": 2.8, "image": 1.5, "snapshot": 0.9})
    timings.add_step("[1/5] APT git", None)
    timings.add_step("[2/5] RUN pip3 install cowsay", 2.4)
    timings.add_step("[4/5] COPY a b /workspace/", 0.3004)
    assert phase_figures(BuildTimings.from_json(timings.to_json())) == [
        ("base image", 0.01, ""),
        ("steps", 2.8, ""),
        ("  [1/5] APT git", None, "cached"),
        ("  [2/5] RUN pip3 install cowsay", 2.4, ""),
        ("  [4/5] COPY a b /workspace/", 0.3, ""),
        ("root image", 1.5, ""),
        ("memory snapshot", 0.9, ""),
    ]


def test_rows_that_were_written_before_steps_had_times_still_print() -> None:
    assert phase_figures(BuildTimings.from_json({"base": 0.5, "steps": 3.25})) == [
        ("base image", 0.5, ""),
        ("steps", 3.25, ""),
    ]
    assert phase_figures(BuildTimings.from_json(None)) == []
