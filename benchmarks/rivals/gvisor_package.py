"""The ``gvisor`` package's Sandbox: ``runsc run`` of `sleep` on the host's own /usr, then ``runsc exec`` of `true`."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .ground import TIMEOUT_S, Ground, WorkFailed, new_name

NAME = "gvisor package: Sandbox().exec"
INSTALL = "scripts/bench --install-rivals"
_PACKAGES = Path(__file__).parents[2] / ".venv-bench/lib"
"""The benchmarks' own environment: the product does not depend on this package."""


def missing() -> str | None:
    """The package, if it is not there."""
    try:
        _package()
    except ImportError:
        return "the gvisor package"
    return None


@contextlib.contextmanager
def prepared(ground: Ground) -> Iterator[Callable[[], float]]:
    """Yields the work; the package finds our runsc by RUNSC_PATH."""
    package = _package()
    before = os.environ.get("RUNSC_PATH")
    os.environ["RUNSC_PATH"] = str(ground.runsc)

    def once() -> float:
        began = time.perf_counter()
        try:
            with package.Sandbox(runtime_dir=str(ground.scratch / new_name())) as sandbox:
                sandbox.exec("true", timeout=TIMEOUT_S)
                return (time.perf_counter() - began) * 1000
        except package.Error as error:
            raise WorkFailed(str(error)) from error

    try:
        yield once
    finally:
        del os.environ["RUNSC_PATH"]
        if before is not None:
            os.environ["RUNSC_PATH"] = before


def _package() -> Any:
    for folder in _PACKAGES.glob("python3.*/site-packages"):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    return importlib.import_module("gvisor")
