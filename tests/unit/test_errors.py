"""``thawbox.errors`` is the one list of errors that clients meet."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import thawbox
from thawbox.errors import ThawboxError

PROGRAMS = ("thawbox.agent.", "thawbox.store.migrations.")
"""They are run, not imported."""


def kinds(root: type[ThawboxError]) -> Iterator[type[ThawboxError]]:
    for kind in root.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_no_other_module_defines_an_error_with_a_status_or_code_of_its_own() -> None:
    for module in pkgutil.walk_packages(thawbox.__path__, "thawbox."):
        if not module.name.startswith(PROGRAMS) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = list(kinds(ThawboxError))
    assert any(kind.__module__ == "thawbox.control.client" for kind in found), "modules were not imported"
    elsewhere = {
        kind.__qualname__
        for kind in found
        if kind.__module__.startswith("thawbox.")
        and kind.__module__ != "thawbox.errors"
        and {"status", "code"} & set(vars(kind))
    }
    assert elsewhere == set()
