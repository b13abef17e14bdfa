"""Documents of a registry, which are hostile input."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.images import manifest
from thawbox.images.values import PATH, SourceFailure

DIGEST = "sha256:" + "a" * 64
BLOB = {"digest": DIGEST, "size": 1}


def raw(value: Any) -> bytes:
    return json.dumps(value).encode()


def index(*entries: tuple[str, str]) -> bytes:
    return raw({"manifests": [{**BLOB, "digest": digest, "platform": {"os": "linux", "architecture": arch}}
                              for arch, digest in entries]})  # fmt: skip


def test_an_index_gives_this_machines_digest() -> None:
    mine = "sha256:" + "b" * 64
    assert (
        manifest.choose(index(("s390x", DIGEST), (manifest.architecture(), mine), ("unknown", DIGEST)))
        == mine
    )


def test_a_manifest_is_its_own_choice() -> None:
    assert manifest.choose(raw({"config": BLOB, "layers": [BLOB]})) is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"<html>", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (raw({}), "manifest is damaged: config"),
        (raw({"schemaVersion": 1}), "schema 1"),
        (raw({"manifests": 1}), "index is damaged"),
        (raw({"manifests": []}), "only for nothing"),
        (index(("s390x", DIGEST)), "only for linux/s390x"),
        (index((manifest.architecture(), "sha256:../../x")), "index is damaged"),
        (raw({"config": BLOB, "layers": [{**BLOB, "size": -1}]}), "layers.0.size"),
        (
            raw({"config": BLOB, "layers": [{**BLOB, "digest": "sha256:" + "a" * 63 + "/"}]}),
            "layers.0.digest",
        ),
        (raw({"config": BLOB, "layers": [BLOB] * 501}), "layers"),
    ],
)
def test_nonsense_is_named(document: bytes, said: str) -> None:
    with pytest.raises(SourceFailure, match=said):
        manifest.choose(document)


def test_config_without_anything() -> None:
    config = manifest.read_config(raw({"architecture": manifest.architecture(), "config": None}))
    assert config.env == (("PATH", PATH),)
    assert (config.workdir, config.user, config.entrypoint, config.cmd) == (None, None, (), ())


def test_config() -> None:
    told = {"Env": ["A=1=2", "PATH=/x", "EMPTY=", "=odd", "BARE"], "WorkingDir": "/w", "User": "1:2",
            "Entrypoint": ["/e"], "Cmd": ["c", "d"]}  # fmt: skip
    config = manifest.read_config(raw({"architecture": manifest.architecture(), "config": told}))
    assert config.env == (("A", "1=2"), ("PATH", "/x"), ("EMPTY", ""), ("BARE", ""))
    assert (config.workdir, config.user, config.entrypoint, config.cmd) == ("/w", "1:2", ("/e",), ("c", "d"))


def test_config_for_another_machine() -> None:
    with pytest.raises(SourceFailure, match="is for linux/s390x"):
        manifest.read_config(raw({"architecture": "s390x"}))
    with pytest.raises(SourceFailure, match="is for windows"):
        manifest.read_config(raw({"os": "windows", "architecture": manifest.architecture()}))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) |
       st.dictionaries(st.sampled_from(["manifests", "config", "layers", "digest", "size", "platform", "Env", "os"]),
                       inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_json_is_read_or_refused(value: Any) -> None:
    for read in (manifest.choose, manifest.read_manifest, manifest.read_config):
        with contextlib.suppress(SourceFailure):
            read(raw(value))
