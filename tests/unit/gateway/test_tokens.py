from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import jwt
import pytest

from thawbox import ids
from thawbox.errors import InvalidToken
from thawbox.sandboxes.tokens import open_signer
from thawbox.settings import load
from thawbox.store.enums import SandboxStatus
from thawbox.store.sandboxes import SandboxRow


def sandbox() -> SandboxRow:
    return SandboxRow(
        id=ids.sandbox_id(),
        organization_id=7,
        template_id=1,
        template_name="t",
        snapshot_key="k",
        status=SandboxStatus.RUNNING,
        cpu=1,
        memory_mb=512,
        disk_gb=1,
        internet_access=True,
        live=True,
        secret="s",
        created_at=time.time(),
    )


def test_token_says_whose_it_is(tmp_path: Path) -> None:
    signer = open_signer(load(state=tmp_path))
    row = sandbox()
    token = signer.first(row)
    claims = signer.check(token.text)
    assert (claims.sandbox_id, claims.organization_id) == (row.id, 7)
    plain = jwt.decode(token.text, options={"verify_signature": False})
    assert set(plain) == {"sub", "org", "iat", "exp", "aud"}
    assert plain["aud"] == "hopx-agent"
    assert plain["exp"] >= token.expires_at


def test_key_is_private_and_stays(tmp_path: Path) -> None:
    settings = load(state=tmp_path / "new")
    token = open_signer(settings).first(sandbox())
    assert (settings.state / "token.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.state.iterdir()] == ["token.key"]
    assert open_signer(settings).check(token.text)
    with pytest.raises(InvalidToken):
        open_signer(load(state=tmp_path / "other")).check(token.text)


def test_damaged_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "token.key").write_bytes(b"short")
    with pytest.raises(OSError, match=r"token\.key holds 5 bytes"):
        open_signer(load(state=tmp_path))


def test_ends_only_grow_even_if_the_clock_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signer = open_signer(load(state=tmp_path))
    row = sandbox()
    monkeypatch.setattr(time, "time", lambda: row.created_at)
    ends = [signer.first(row).expires_at]
    for _ in range(10):
        ends.append(signer.next(row).expires_at)
        row = replace(row, token_expires_at=ends[-1])
    texts = [f"{end:.6f}" for end in ends]
    assert texts == sorted(set(texts))


def test_derived_keys_differ_from_each_other(tmp_path: Path) -> None:
    signer = open_signer(load(state=tmp_path))
    assert signer.derive("a") == signer.derive("a")
    assert signer.derive("a") != signer.derive("b")
    assert len(signer.derive("a")) == 32
