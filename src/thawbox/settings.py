"""Settings: flags > ``THAWBOX_*`` > the file that ``THAWBOX_CONFIG`` names > defaults.

Every setting is a field here; its environment variable is ``THAWBOX_`` and the field's name in capitals, its key
in the TOML file is the field's name. Lists and tables are JSON in the environment.
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
    """What an operator can choose. Sizes and times carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix="THAWBOX_", env_ignore_empty=True, frozen=True, extra="forbid"
    )

    # Where we listen, and how clients see us.
    host: str = "127.0.0.1"
    """Address to listen on; anything but loopback opens the server to the network."""
    port: int = Field(7070, ge=0, le=65535)
    """Of the control plane; 0: any that is free."""
    gateway_port: int = Field(7777, ge=0, le=65535)
    """Of the gateway, where sandboxes' own addresses are; 0: any that is free."""
    public_url: str | None = None
    """Base of the control plane as clients reach it; None: from the request's Host header."""
    gateway_url: str | None = None
    """Base of the gateway as clients reach it; None: the request's host name and ``gateway_port``."""
    domain: str | None = Field(None, pattern=DOMAIN, max_length=180)
    """Parent of sandboxes' own host names, ``ID.DOMAIN`` and ``PORT-ID.DOMAIN``; None: they share one address."""
    domain_scheme: Literal["http", "https"] = "http"
    """Of addresses below ``domain``; https where a proxy before the gateway ends TLS."""
    domain_port: int | None = Field(None, ge=1, le=65535)
    """Of addresses below ``domain``; None: ``gateway_port`` with http, 443 with https."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1",)
    """Addresses or networks of proxies before us whose ``X-Forwarded-For`` and ``-Proto`` count."""
    region: str = "local"
    """What sandboxes report as their region."""
    node: str = "node-1"
    """What sandboxes report as their node."""

    # What we keep, and where.
    state: Path = Path("/var/lib/thawbox")
    """Everything that outlives the server: database, layers, snapshots, logs, runsc."""
    database_url: str | None = None
    """SQLAlchemy URL; None: SQLite in the state folder."""
    runsc: Path | None = None
    """The gVisor binary; None: the one that setup installed in the state folder, else ``runsc`` in PATH."""
    agent_image: Path | None = None
    """The EROFS image of the guest agent; None: made from this machine's Python by setup."""
    shared_runtime: Path = Path("/var/lib/thawbox/runtime/shared")
    """What the state folders of one machine share: ``runsc`` as built here, verdicts of its self-test, and Go if the
    machine has none. Only root may be able to write in it."""

    # Limits. 0 means none.
    builds_per_hour: int = Field(10, ge=0)
    """Builds that an organisation may ask for within an hour."""
    builds_per_day: int = Field(50, ge=0)
    """Builds that an organisation may ask for within a day."""
    requests_per_minute: int = Field(6000, ge=0)
    """Control plane, per organisation."""
    max_sandboxes: int = Field(0, ge=0)
    """Concurrent sandboxes per organisation."""
    max_cpu: int = Field(64, ge=1, le=64)
    """Most cores that a template may ask for."""
    max_memory_mb: int = Field(262_144, ge=128)
    """Most memory that a template may ask for."""
    max_disk_gb: int = Field(1024, ge=1)
    """Largest disk that a template may ask for."""
    max_steps: int = Field(100, ge=1)
    """Most steps of a recipe."""
    max_body_bytes: int = Field(16 * 1024 * 1024, ge=1024)
    """Largest JSON request body."""
    upload_max_bytes: int = Field(2 * 1024**3, ge=1)
    """Largest uploaded archive, compressed."""
    upload_unpacked_max_bytes: int = Field(8 * 1024**3, ge=1)
    """Largest uploaded archive, unpacked."""

    sandbox_requests: int = Field(128, ge=1)
    """Requests and WebSockets at one sandbox's own interface at the same time."""
    port_connections: int = Field(100, ge=1)
    """Requests, WebSockets and connections to programs inside one sandbox at the same time."""
    port_idle_timeout_s: int = Field(600, ge=1)
    """Until a request to a program inside is given up if no byte moves, either way."""

    # Builds.
    build_concurrency: int = Field(0, ge=0)
    """Builds side by side; 0: as many as cores."""
    step_timeout_s: int = Field(3600, ge=1)
    """Until a build step is stopped and its build fails."""
    step_log_max_bytes: int = Field(1024 * 1024, ge=1024)
    """How much of one step's output the log keeps."""
    image_sources: tuple[str, ...] = ("registry", "bootstrap")
    """Where base images come from, in this order."""
    registry_mirrors: dict[str, str] = Field(default_factory=dict)
    """Registry host -> host[:port][/path] to ask instead; ``*`` stands for every other."""
    registry_insecure: tuple[str, ...] = ()
    """Registry hosts that may be spoken to over plain HTTP."""
    registry_timeout_s: int = Field(10, ge=1)
    """Until a registry that does not answer counts as unreachable."""
    debian_mirror: str | None = None
    """Mirror for bootstrapped images; None: this machine's own."""

    # What guests see of the host's network.
    guest_network: str = "10.117.0.0/16"
    """Addresses for sandboxes; each gets a /30."""
    guest_dns: tuple[str, ...] = ()
    """Name servers; empty: the host's own."""
    guest_allow: tuple[str, ...] = ()
    """Addresses or networks that guests may reach although they are private (a package mirror, a proxy)."""
    guest_ca_file: Path | None = Path("/etc/ssl/certs/ca-certificates.crt")
    """CA bundle that build steps use, through environment variables; stays in no image."""
    guest_proxy: str | None = None
    """HTTP proxy for build steps; None: the server's own ``https_proxy``/``http_proxy``."""

    # Sandboxes.
    callback_allow: tuple[str, ...] = ()
    """Networks that callbacks of asynchronous executions may go to although they are not public."""
    pause_memory_s: int = Field(60, ge=0)
    """How long a paused sandbox keeps its memory before it moves to disk; 0: it moves at once."""
    memory_reserve_mb: int = Field(256, ge=0)
    """With less memory free than this, paused sandboxes move to disk and no new one starts; 0: no such floor."""
    pool_min: int = Field(0, ge=0, le=1000)
    """Sandboxes that wait ready for every template, whether anybody asks for it or not."""
    pool_max: int = Field(8, ge=0, le=1000)
    """Most sandboxes that wait ready for one template; 0: none for any."""
    pool_shells: int = Field(2, ge=0, le=1000)
    """Sandboxes without memory yet that wait for each template in use, for when those that are ready run out."""
    pool_memory_mb: int = Field(1024, ge=0)
    """Memory that all that waits may take together."""
    pool_half_life_s: int = Field(300, ge=1)
    """Until a request for a template counts half in how many sandboxes wait for it."""
    token_ttl_s: int = Field(86_400, ge=3601)
    """How long a sandbox's token is valid; clients renew it when an hour is left."""
    file_roots: tuple[str, ...] = ()
    """Folders inside sandboxes that ``/files`` may touch, by name; empty: all. Commands are not bound by it."""
    log_level: str = "info"
    """debug, info, warning or error."""
    log_json: bool | None = None
    """None: JSON unless standard error is a terminal."""

    @field_validator("callback_allow")
    @classmethod
    def networks(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        """Addresses or networks."""
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
        """Flags, environment, file: in this order."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path := os.environ.get("THAWBOX_CONFIG"):
            sources.append(TomlConfigSettingsSource(settings_cls, toml_file=path))
        return tuple(sources)


def load(**flags: Any) -> Settings:
    """Settings with ``flags`` on top; a flag that is None counts as not given.

    Raises:
        pydantic.ValidationError: a value is out of range or a key of the file is unknown.
    """
    return Settings(**{name: value for name, value in flags.items() if value is not None})
