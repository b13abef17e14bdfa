"""Logins for Amazon ECR: exchanges an access key for a password that is valid for 12 hours.

It takes one signed request (AWS Signature Version 4, service ``ecr``, GetAuthorizationToken). The usual library for it,
botocore, has 14 MB; the signature is four HMACs. Source: the Amazon ECR API reference, and "AWS Signature Version 4 for
API requests" in the IAM user guide.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Any

import httpx

from .values import SourceFailure

_HOST = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.([a-z0-9.-]+)")
_TARGET = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"
_TYPE = "application/x-amz-json-1.1"
_SIGNED = ("content-type", "host", "x-amz-date", "x-amz-security-token", "x-amz-target")


def region_of(host: str) -> str | None:
    """The region in ``<account>.dkr.ecr.<region>.<domain>``; None if ``host`` is not an ECR host."""
    match = _HOST.fullmatch(host)
    return match[2] if match else None


async def login(
    host: str,
    key: str,
    secret: str,
    *,
    session_token: str | None,
    timeout_s: float,
    endpoint: str | None = None,
) -> tuple[str, str]:
    """User name and password for the ECR registry ``host``. ``endpoint`` replaces the region's own API address.

    Raises:
        SourceFailure: AWS does not answer, refuses the key (final), or sends no token.
    """
    match = _HOST.fullmatch(host)
    assert match, host
    account, region, domain = match.groups()
    url = httpx.URL(endpoint or f"https://api.ecr.{region}.{domain}/")
    body = f'{{"registryIds":["{account}"]}}'.encode()
    headers = sign(
        url.netloc.decode(), body, region, key, secret, session_token=session_token, now=datetime.now(UTC)
    )
    try:
        async with httpx.AsyncClient(timeout=timeout_s) as client:
            answer = await client.post(url, content=body, headers=headers)
    except httpx.HTTPError as error:
        raise SourceFailure(f"the ECR API of region {region} is unreachable ({error})") from None
    if answer.status_code != 200:
        raise SourceFailure(
            f"ECR refused the access key (HTTP {answer.status_code}, {_error_of(answer)}): check "
            "registry_credentials and the right ecr:GetAuthorizationToken",
            final=True,
        )
    return _account_of(answer)


def sign(
    host: str,
    body: bytes,
    region: str,
    key: str,
    secret: str,
    *,
    session_token: str | None,
    now: datetime,
) -> dict[str, str]:
    """The headers of a GetAuthorizationToken request, with its signature (AWS Signature Version 4)."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"content-type": _TYPE, "host": host, "x-amz-date": stamp, "x-amz-target": _TARGET}
    if session_token:
        headers["x-amz-security-token"] = session_token
    names = [name for name in _SIGNED if name in headers]
    canonical = "\n".join(
        (
            "POST",
            "/",
            "",
            *(f"{name}:{headers[name]}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{stamp[:8]}/{region}/ecr/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signing_key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    signature = hmac.digest(signing_key, text.encode(), "sha256").hex()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return headers


def _account_of(answer: httpx.Response) -> tuple[str, str]:
    try:
        token: Any = answer.json()["authorizationData"][0]["authorizationToken"]
        user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error):
        colon = ""
    if not colon:
        raise SourceFailure("the ECR API's answer holds no authorization token")
    return user, password


def _error_of(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["__type"])[:100]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
