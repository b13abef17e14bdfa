"""Settings. Flags come first, then ``THAWBOX_*`` variables, then the file that ``THAWBOX_CONFIG`` names, then defaults.

Every setting is a field of ``Settings``. Its environment variable is ``THAWBOX_`` and the field's name in capitals; its
key in the TOML file is the field's name. In the environment, lists and tables are JSON.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DOMAIN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$"
"""A host name in lower case, without a dot at the end."""


class Settings(BaseSettings):
    """What an operator can choose. The names of sizes and times end with their unit."""

    model_config = SettingsConfigDict(
        env_prefix="THAWBOX_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    # Where the server listens, and how clients reach it.
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback opens the server to the network."""
    port: int = Field(7070, ge=0, le=65535)
    """Port of the control plane; 0: any that is free."""
    gateway_port: int = Field(7777, ge=0, le=65535)
    """Port of the gateway, where the addresses of sandboxes are; 0: any that is free."""
    public_url: str | None = None
    """URL of the control plane as clients reach it; None: taken from the request's Host header."""
    gateway_url: str | None = None
    """URL of the gateway as clients reach it; None: the request's host name and ``gateway_port``."""
    domain: str | None = Field(None, pattern=DOMAIN, max_length=180)
    """Domain in which sandboxes have host names, ``ID.DOMAIN`` and ``PORT-ID.DOMAIN``; None: all share one address."""
    domain_scheme: Literal["http", "https"] = "http"
    """Scheme of addresses below ``domain``; https if a proxy in front of the gateway ends TLS."""
    domain_port: int | None = Field(None, ge=1, le=65535)
    """Port of addresses below ``domain``; None: ``gateway_port`` with http, 443 with https."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1",)
    """Addresses or networks of proxies in front of the server whose ``X-Forwarded-For`` and ``-Proto`` are trusted."""
    region: str = "local"
    """What sandboxes report as their region."""
    node: str = "node-1"
    """What sandboxes report as their node."""

    # What the server keeps, and where.
    state: Path = Path("/var/lib/thawbox")
    """The state folder. It holds everything that outlives the server: database, layers, snapshots, logs, runsc."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite in the state folder."""
    runsc: Path | None = None
    """The gVisor program; None: the one that setup installed in the state folder, else ``runsc`` in PATH."""
    agent_image: Path | None = None
    """The EROFS image of the guest agent; None: made from this machine's Python by setup."""
    shared_runtime: Path = Path("/var/lib/thawbox/runtime/shared")
    """What the state folders of one machine share: ``runsc`` as built here, verdicts of its self-test, and Go if the
    machine has none. Only root may be able to write in it."""

    # Limits. 0 means no limit.
    builds_per_hour: int = Field(10, ge=0)
    """Most builds that an organisation may request within an hour."""
    builds_per_day: int = Field(50, ge=0)
    """Most builds that an organisation may request within a day."""
    requests_per_minute: int = Field(6000, ge=0)
    """Most requests per minute to the control plane, per organisation."""
    max_sandboxes: int = Field(0, ge=0)
    """Most sandboxes at the same time, per organisation."""
    max_cpu: int = Field(64, ge=1, le=64)
    """Most cores of a template."""
    max_memory_mb: int = Field(262_144, ge=128)
    """Most memory of a template."""
    max_disk_gb: int = Field(1024, ge=1)
    """Largest disk of a template."""
    max_steps: int = Field(100, ge=1)
    """Most steps of a recipe."""
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    """Largest JSON request body."""
    upload_max_bytes: int = Field(2 * 1024**3, ge=1)
    """Largest uploaded archive, compressed."""
    upload_unpacked_max_bytes: int = Field(8 * 1024**3, ge=1)
    """Largest uploaded archive, unpacked."""

    sandbox_requests: int = Field(128, ge=1)
    """Most requests and WebSockets at the same time to one sandbox's own interface."""
    port_connections: int = Field(100, ge=1)
    """Most requests, WebSockets and connections at the same time to programs inside one sandbox."""
    port_idle_timeout_s: int = Field(600, ge=1)
    """How long a request to a program inside may pass without a byte in either direction; then it is cancelled."""

    # Builds.
    build_concurrency: int = Field(0, ge=0)
    """How many builds run at the same time; 0: as many as cores."""
    step_timeout_s: int = Field(3600, ge=1)
    """How long a build step may run; then it is stopped and the build fails."""
    step_log_max_bytes: int = Field(1024 * 1024, ge=1024)
    """How much of one step's output the build log keeps."""
    image_sources: tuple[str, ...] = ("registry", "bootstrap")
    """Where base images come from, in this order."""
    registry_mirrors: dict[str, str] = Field(default_factory=dict)
    """Table from a registry's host to the host[:port][/path] to use instead; ``*`` stands for all other registries."""
    registry_insecure: tuple[str, ...] = ()
    """Registry hosts that may be reached over plain HTTP."""
    registry_timeout_s: int = Field(10, ge=1)
    """After this time without an answer a registry counts as unreachable."""
    debian_mirror: str | None = None
    """Mirror for bootstrapped images; None: this machine's own."""

    # What guests see of the host's network.
    guest_network: str = "10.117.0.0/16"
    """Addresses for sandboxes; each gets a /30."""
    guest_dns: tuple[str, ...] = ()
    """Name servers; empty: the host's own."""
    guest_allow: tuple[str, ...] = ()
    """Private addresses or networks that guests may reach all the same (a package mirror, a proxy)."""
    guest_ca_file: Path | None = Path("/etc/ssl/certs/ca-certificates.crt")
    """CA bundle that build steps use, through environment variables. It does not become part of images."""
    guest_proxy: str | None = None
    """HTTP proxy for build steps; None: the server's own ``https_proxy``/``http_proxy``."""

    # Sandboxes.
    callback_allow: tuple[str, ...] = ()
    """Private networks to which callbacks of asynchronous executions may go all the same."""
    pause_memory_s: int = Field(60, ge=0)
    """How long a paused sandbox stays in memory before it moves to disk; 0: it moves at once."""
    memory_reserve_mb: int = Field(256, ge=0)
    """With less free memory than this, paused sandboxes move to disk and no new one starts; 0: no reserve."""
    pool_min: int = Field(0, ge=0, le=1000)
    """How many sandboxes wait ready for every template, even for one that is not in use."""
    pool_max: int = Field(8, ge=0, le=1000)
    """Most sandboxes that wait ready for one template; 0: no pools."""
    pool_shells: int = Field(2, ge=0, le=1000)
    """How many containers without memory wait for each template in use; they serve when no ready sandbox is left."""
    pool_memory_mb: int = Field(1024, ge=0)
    """Most memory that all waiting sandboxes may take together."""
    pool_half_life_s: int = Field(300, ge=1)
    """After this time a request for a template counts half in the demand that sets the size of its pool."""
    token_ttl_s: int = Field(86_400, ge=3601)
    """How long a sandbox's token is valid. Clients renew it when an hour is left."""
    file_roots: tuple[str, ...] = ()
    """Folders inside sandboxes that ``/files`` may read and write; empty: all. Commands are not bound by it."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_json: bool | None = None
    """Whether log lines are JSON; None: they are, unless standard error is a terminal."""

    @field_validator("callback_allow")
    @classmethod
    def networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """Check that each value is an address or a network.

        Raises:
            ValueError: a value is neither.
        """
        for text in values:
            ipaddress.ip_network(text, strict=False)
        return values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources of settings, the first one first: flags, environment, file."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path := os.environ.get("THAWBOX_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)


def load(**flags: Any) -> Settings:
    """The settings from all sources; ``flags`` come first. A flag that is None counts as not given.

    Raises:
        pydantic.ValidationError: a value is out of range or a key of the file is unknown.
    """
    return Settings(**{name: value for name, value in flags.items() if value is not None})
