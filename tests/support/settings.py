"""Settings for tests, without the price of looking for them in the environment and in a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from thawbox.settings import Settings, load


@cache
def _defaults() -> Settings:
    return load(state=Path("/nonexistent"))


def settings(state: Path, **changed: Any) -> Settings:
    """The default settings with another state folder and these fields changed; their values are not checked."""
    return _defaults().model_copy(update={"state": state, **changed})
