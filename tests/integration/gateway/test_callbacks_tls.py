"""Callbacks over TLS: who is trusted, and that nobody else learns what a callback holds."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.callbacks import Receiver, execute, permitting, runner, until_nothing_is_owed
from tests.support.gateway import Gate
from thawbox.gateway.run import callback_delivery

__all__ = ["runner"]

EVERY_NAME = "DNS:localhost,IP:127.0.0.1"


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def authority(folder: Path, name: str) -> Path:
    """A new one; its certificate is ``NAME.pem``, its key ``NAME.key``."""
    made = folder / f"{name}.pem"
    key = (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        folder / f"{name}.key",
    )
    openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-days", "2", "-out", made)
    return made


@asynccontextmanager
async def serving(
    folder: Path, *, by: str = "ours", names: str = EVERY_NAME, days: int = 2
) -> AsyncIterator[Receiver]:
    """A receiver with a certificate by that authority, for those names, that ends in so many days."""
    key, asked, made, extra = (folder / f"server.{end}" for end in ("key", "csr", "pem", "ext"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", *curve, "-keyout", key, "-subj", "/CN=receiver", "-out", asked)
    extra.write_text(f"subjectAltName={names}")
    signer = ("-CA", folder / f"{by}.pem", "-CAkey", folder / f"{by}.key", "-CAcreateserial")
    openssl("x509", "-req", "-in", asked, *signer, "-days", str(days), "-extfile", extra, "-out", made)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(made, key)
    receiver = Receiver()
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0, ssl=context)
    receiver.url = f"https://localhost:{server.sockets[0].getsockname()[1]}/hook"
    yield receiver
    server.close()


@pytest.fixture
async def trusting(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gate]:
    """The gateway of an operator who trusts the authority "ours", and not "theirs"."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority(tmp_path, "ours")))
    authority(tmp_path, "theirs")
    context = permitting(gate)
    async with callback_delivery.delivering(context):
        yield gate


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_valid_certificate(trusting: Gate, tmp_path: Path, host: str) -> None:
    async with serving(tmp_path) as receiver:
        url = receiver.url.replace("localhost", host)
        await execute(trusting, "print(1)", url, callback_signature_secret="key")
        await until_nothing_is_owed(trusting)
    ((headers, body),) = receiver.calls
    assert headers["x-hopx-signature"] == callback_delivery.signature(
        "key", headers["x-hopx-timestamp"], body
    )
    assert headers["host"] == url.split("/")[2]


@pytest.mark.parametrize(
    ("certificate", "problem"),
    [
        ({"by": "theirs"}, "unable to get local issuer certificate"),
        ({"days": -1}, "certificate has expired"),
        ({"names": "DNS:other.example"}, "not valid for 'localhost'"),
    ],
    ids=["untrusted", "expired", "another's name"],
)
async def test_others_are_told_nothing(
    trusting: Gate, tmp_path: Path, certificate: dict[str, Any], problem: str
) -> None:
    with capture_logs() as logged:
        async with serving(tmp_path, **certificate) as receiver:
            await execute(trusting, "print(1)", receiver.url, callback_signature_secret="key")
            await until_nothing_is_owed(trusting)
    assert receiver.calls == []
    said = [line for line in logged if line["event"] in ("callback_failed", "callback_given_up")]
    assert [line["event"] for line in said] == ["callback_failed"] * 5 + ["callback_given_up"]
    assert all(problem in line["problem"] for line in said)
