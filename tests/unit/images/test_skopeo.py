"""What skopeo's last words mean."""

from __future__ import annotations

import pytest

from thawbox.images.skopeo import Repository, explain

REPOSITORY = Repository("registry.example", "team/app", insecure=False)
URL = "https://registry.example/v2/"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            f'pinging container registry: Get \\"{URL}\\": dial tcp: lookup registry.example: no such host',
            "unreachable",
        ),
        (f'pinging: Get \\"{URL}\\": dial tcp 192.0.2.1:443: connect: connection refused', "unreachable"),
        (f'pinging: Get \\"{URL}\\": dial tcp 192.0.2.1:443: i/o timeout', "unreachable"),
        (f'pinging: Get \\"{URL}\\": net/http: TLS handshake timeout', "unreachable"),
        (f'Get \\"{URL}\\": http: server gave HTTP response to HTTPS client', "registry_insecure"),
        (f'Get \\"{URL}\\": x509: certificate signed by unknown authority', "does not trust"),
        ("reading manifest 1: unauthorized: authentication required", r"\(401\)"),
        ("unable to retrieve auth token: invalid username/password: unauthorized: wrong", r"\(401\)"),
        ("reading manifest 1: denied: requested access to the resource is denied", r"\(403\)"),
        ("requesting bearer token: invalid status code from registry 403 (Forbidden)", r"\(403\)"),
        ("reading manifest 1 in registry.example/team/app: manifest unknown", r"\(404\)"),
        ("reading manifest 1: name unknown: repository name not known to registry", r"\(404\)"),
        ("toomanyrequests: You have reached your pull rate limit", "too many"),
        ("reading manifest 1: something new: and odd", "failed: something new: and odd"),
    ],
)
def test_the_reason_is_told(said: str, meant: str) -> None:
    line = f'time="2026-01-01T00:00:00Z" level=fatal msg="Error parsing image name \\"docker://x\\": {said}"'
    failure = explain(REPOSITORY, line)
    assert failure.reason.startswith("registry.example ")
    with pytest.raises(type(failure), match=meant):
        raise failure


def test_nothing_said() -> None:
    assert explain(REPOSITORY, "").reason.startswith("registry.example failed")
