"""How long the phases and the steps of a build took, as it is kept in the build's row.

In JSON: a key per phase (``base``, ``steps``, ``image``, ``snapshot``) with its seconds, and ``step_times``, a list
of ``{"title", "seconds", "cached"}``. Rows written before steps had times lack that key.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_STEPS_KEY = "step_times"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step that makes a layer."""

    title: str
    """with its number, as in the log: ``[2/5] RUN make``"""
    seconds: float
    """0 if the step was cached"""
    cached: bool


@dataclass(frozen=True, slots=True)
class BuildTimings:
    """One build's times."""

    phases: dict[str, float] = field(default_factory=dict)
    """phase -> seconds, in the order in which they ran"""
    steps: list[StepTime] = field(default_factory=list)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as the phase ``name``; one that raises counts as well."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began, 3)

    def add_step(self, title: str, seconds: float | None) -> None:
        """Note a step that is done; ``seconds`` is None if it was cached."""
        cached = seconds is None
        self.steps.append(StepTime(title=title, seconds=round(seconds or 0.0, 3), cached=cached))

    def to_json(self) -> dict[str, Any]:
        """For the build's row."""
        return {**self.phases, _STEPS_KEY: [asdict(step) for step in self.steps]}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any] | None) -> BuildTimings:
        """What ``to_json`` made, also in rows without steps; empty for None."""
        phases = dict(raw or {})
        return cls(steps=[StepTime(**step) for step in phases.pop(_STEPS_KEY, ())], phases=phases)
