"""The host's network settings for build steps, as environment variables.

A package client in a step must find the host's proxy and trust the host's certificates. Nothing of that may stay in
the image, so only the step's own command gets these variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from thawbox.settings import Settings

CA_INSIDE = "/run/thawbox/ca-certificates.crt"
"""Path of the host's CA bundle inside every container."""

_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "CARGO_HTTP_CAINFO",
)
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy")
_INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "NPM_CONFIG_REGISTRY", "GOPROXY")


def step_environment(settings: Settings, host: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables for a step's command, below what the recipe itself sets."""
    env = {name: host[name] for name in _INDEX_VARIABLES if name in host}
    for name in _PROXY_VARIABLES:
        value = settings.guest_proxy if settings.guest_proxy and name != "no_proxy" else None
        value = value or host.get(name) or host.get(name.upper())
        if value:
            env[name] = env[name.upper()] = value
    if settings.guest_ca_file and settings.guest_ca_file.exists():
        env.update(dict.fromkeys(_CA_VARIABLES, CA_INSIDE))
    return env
