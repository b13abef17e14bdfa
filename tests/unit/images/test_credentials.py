"""Logins of all five kinds."""

from __future__ import annotations

import base64
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.ecr import ECR, KEY, SECRET
from thawbox.errors import BuildError
from thawbox.images import credentials, ecr
from thawbox.images.reference import parse
from thawbox.templates.recipe import RegistryCredentials


@pytest.mark.parametrize(
    ("given", "account"),
    [
        (("basic", "u", "p", None), ("u", "p")),
        (("basic", "u", None, "t"), ("u", "t")),
        (("github", None, None, "t"), ("x-access-token", "t")),
        (("github", "me", "p", None), ("me", "p")),
        (("gitlab", None, None, "t"), ("oauth2", "t")),
        (("gitlab", "deploy", None, "t"), ("deploy", "t")),
        (("gcr", "_json_key", '{"a": 1}', None), ("_json_key", '{"a": 1}')),
        (("gcr", None, ' {"a": 1}', None), ("_json_key", ' {"a": 1}')),
        (("gcr", None, None, "t"), ("oauth2accesstoken", "t")),
        (("ecr", None, None, "t"), ("AWS", "t")),
        (("ecr", "AWS", "p", None), ("AWS", "p")),
    ],
)
async def test_kinds(given: tuple[str, str | None, str | None, str | None], account: tuple[str, str]) -> None:
    kind, username, password, token = given
    login = RegistryCredentials(kind=kind, username=username, password=password, token=token)
    assert await credentials.login(login, parse("registry.example/app"), timeout_s=1) == account


@pytest.mark.parametrize(
    ("login", "said"),
    [
        (RegistryCredentials(kind="basic", username="u"), "need a password or a token"),
        (RegistryCredentials(kind="basic", password="hunter2"), "need a username"),
        (RegistryCredentials(kind="basic", username="a:b", password="hunter2"), "must not contain ':'"),
        (RegistryCredentials(kind="azure", username="u", password="hunter2"), "'azure' is unknown"),
        (RegistryCredentials(kind="ecr", username="u"), "access key id as username"),
        (RegistryCredentials(kind="ecr", username="u", password="hunter2"), "do not fit the host"),
    ],
)
async def test_what_is_missing_is_named(login: RegistryCredentials, said: str) -> None:
    with pytest.raises(BuildError, match=said) as refused:
        await credentials.login(login, parse("registry.example/app"), timeout_s=1)
    assert "hunter2" not in refused.value.message


def test_the_authfile_is_private_and_short_lived(tmp_path: Path) -> None:
    with credentials.authfile(tmp_path, "registry.example", ("u", "p:q")) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        auth = json.loads(path.read_text())["auths"]["registry.example"]["auth"]
        assert base64.b64decode(auth) == b"u:p:q"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (ECR, "eu-west-1"),
        ("123456789012.dkr.ecr-fips.us-east-1.example.com", "us-east-1"),
        ("123456789012.dkr.ecr.cn-north-1.example.com.cn", "cn-north-1"),
        ("12345.dkr.ecr.eu-west-1.example.com", None),
        ("docker.io", None),
    ],
)
def test_ecr_hosts(host: str, region: str | None) -> None:
    assert ecr.region_of(host) == region


@pytest.mark.parametrize(
    ("session_token", "signature"),
    [
        (None, "36d4d19c6cdb7afce8a7993878ae1642c4cf4ad7fbc4f8ceed33c49a59095319"),
        ("session/token==", "7de988120091f753f49f2502ad0f6167057caadec080244510ec15494fb1d1b9"),
    ],
)
def test_the_signature_is_the_one_that_botocore_makes(session_token: str | None, signature: str) -> None:
    headers = ecr.sign(
        "api.ecr.eu-west-1.example.com",
        b'{"registryIds":["123456789012"]}',
        "eu-west-1",
        KEY,
        SECRET,
        session_token=session_token,
        now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    )
    assert headers["authorization"].endswith(f"Signature={signature}")
