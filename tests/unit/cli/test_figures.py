"""The quickstart's table."""

from __future__ import annotations

from thawbox.cli.figures import step_figures

LOG = """CACHED FROM python:3.11 (made from Debian packages)
CACHED [1/5] APT git
[2/5] RUN pip3 install cowsay (the step changed)
Collecting cowsay
[2/5] done in 2.4 s
[3/5] WORKDIR /workspace
[4/5] COPY a b /workspace/ (a step before it was run again)
[4/5] done in 0.3 s
[5/5] ENV GREETING
"""


def test_steps_are_listed_with_their_time_or_as_cached() -> None:
    assert step_figures(LOG) == [
        ("  [1/5] APT git", None, "cached"),
        ("  [2/5] RUN pip3 install cowsay", 2.4, ""),
        ("  [4/5] COPY a b /workspace/", 0.3, ""),
    ]
