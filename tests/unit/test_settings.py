"""Where settings come from."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from thawbox.settings import load


def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "thawbox.toml"
    file.write_text("port = 1\ngateway_port = 2\npool_max = 3\n")
    monkeypatch.setenv("THAWBOX_CONFIG", str(file))
    monkeypatch.setenv("THAWBOX_PORT", "11")
    monkeypatch.setenv("THAWBOX_GATEWAY_PORT", "12")
    found = load(port=21)
    assert (found.port, found.gateway_port, found.pool_max) == (21, 12, 3)


def test_an_empty_variable_is_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("THAWBOX_RUNSC", "THAWBOX_PORT", "THAWBOX_GUEST_DNS"):
        monkeypatch.delenv(name, raising=False)
    expected = load()
    for name in ("THAWBOX_RUNSC", "THAWBOX_PORT", "THAWBOX_GUEST_DNS"):
        monkeypatch.setenv(name, "")
    assert load() == expected


def test_a_key_that_is_unknown_or_out_of_range_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "thawbox.toml"
    monkeypatch.setenv("THAWBOX_CONFIG", str(file))
    for line, named in (("prot = 1", "prot"), ("port = 70000", "port")):
        file.write_text(line + "\n")
        with pytest.raises(pydantic.ValidationError, match=named):
            load()
