"""Registry logins: from the five kinds of a recipe to what a registry takes.

How clients send them: docs/reference/compatibility/templates-build.md#registry-logins.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from thawbox.errors import BuildError

from . import ecr
from .reference import Reference
from .values import Credentials

# User names that registries expect beside a token.
_TOKEN_USERS = {"github": "x-access-token", "gitlab": "oauth2", "gcr": "oauth2accesstoken"}
_KEY_USER = "_json_key"


async def login(credentials: Credentials, reference: Reference, *, timeout_s: float) -> tuple[str, str]:
    """User name and password for ``reference``'s registry. For ECR they are fetched from AWS.

    Raises:
        BuildError: a field is missing or the kind does not fit the host.
        SourceFailure: AWS does not answer, or refuses the key.
    """
    kind = credentials.kind
    region = ecr.region_of(reference.host)
    if kind == "ecr" or (kind == "basic" and region and credentials.username != "AWS"):
        return await _ecr_login(credentials, reference, region, timeout_s)
    if kind not in ("basic", *_TOKEN_USERS):
        raise BuildError(
            f"registry_credentials.type {kind!r} is unknown: use basic, github, gitlab, ecr or gcr"
        )
    secret = credentials.password or credentials.token
    if not secret:
        raise BuildError(f"registry_credentials of type {kind!r} need a password or a token")
    user = credentials.username or _TOKEN_USERS.get(kind)
    if kind == "gcr" and not credentials.username and secret.lstrip().startswith("{"):
        user = _KEY_USER
    if not user:
        raise BuildError("registry_credentials of type 'basic' need a username")
    if ":" in user:
        raise BuildError("registry_credentials.username must not contain ':'")
    return user, secret


async def _ecr_login(
    credentials: Credentials, reference: Reference, region: str | None, timeout_s: float
) -> tuple[str, str]:
    key, secret, token = credentials.username, credentials.password, credentials.token
    if token and not (key and secret):
        return "AWS", token
    if not (key and secret):
        raise BuildError(
            "registry_credentials for ECR need the access key id as username and the secret access key as password"
        )
    if key == "AWS":
        return key, secret
    if not region:
        raise BuildError(
            f"registry_credentials of type 'ecr' do not fit the host {reference.host!r}: "
            "an ECR host reads <account>.dkr.ecr.<region>.<domain>"
        )
    return await ecr.login(reference.host, key, secret, session_token=token, timeout_s=timeout_s)


@contextmanager
def authfile(folder: Path, host: str, account: tuple[str, str] | None) -> Iterator[Path]:
    """A file for ``skopeo --authfile`` in ``folder``, with mode 0600, for the duration of the block.

    Without an account the file has no login but exists: otherwise skopeo would use the logins of the server's user.
    Source of the format: containers-auth.json(5).
    """
    auths = {}
    if account:
        auths[host] = {"auth": base64.b64encode(":".join(account).encode()).decode()}
    path = folder / "auth.json"
    path.touch(mode=0o600, exist_ok=False)
    try:
        path.write_text(json.dumps({"auths": auths}))
        yield path
    finally:
        path.unlink(missing_ok=True)
