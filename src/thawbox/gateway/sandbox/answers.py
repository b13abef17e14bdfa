"""What a sandbox answers about itself. Sizes are bytes unless a name says otherwise, durations seconds."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from thawbox.gateway.answers import Stamped, Traced


class EnvironmentAnswer(Stamped):
    """The environment of the sandbox's programs, whole."""

    env_vars: dict[str, str]
    count: int


class Features(TypedDict):
    """What a sandbox can do."""

    code_execution: bool
    file_operations: bool
    terminal_access: bool
    websocket_streaming: bool
    rich_output: bool
    background_jobs: bool
    ipython_kernel: bool
    system_metrics: bool
    desktop: bool
    languages: list[str]
    commands: bool


class HealthAnswer(Traced):
    """The gateway's health; with a token the sandbox's, which has an id, features and streams, too."""

    status: Literal["healthy"]
    agent: str
    version: str
    uptime: str
    uptime_seconds: int
    vm_id: NotRequired[str]
    features: NotRequired[Features]
    active_streams: NotRequired[int]


class RootAnswer(Traced):
    """Name and version of the gateway. ``endpoints``: a name for each path -> its methods and the path."""

    name: str
    agent: str
    version: str
    endpoints: dict[str, str]


class Pong(TypedDict):
    """The gateway answers."""

    status: Literal["ok"]
    message: str


class InfoAnswer(Traced):
    """The sandbox, its agent, and what it can do."""

    vm_id: str
    agent: str
    agent_version: str
    version: str
    os: str
    arch: str
    platform: str
    vm_ip: str
    ip: str
    vm_port: str
    port: str
    start_time: str
    uptime: float
    uptime_seconds: int
    endpoints: dict[str, str]
    features: Features


class OperatingSystem(TypedDict):
    """As /etc/os-release and uname have it."""

    name: str
    version: str
    kernel: str
    arch: str
    hostname: str
    timezone: str


class Hardware(TypedDict):
    """The sandbox's size."""

    cpu_cores: int
    cpu_model: str
    memory_mb: int
    disk_mb: int


class NetworkInterface(TypedDict):
    """An interface of the sandbox."""

    name: str
    ip: str


class SandboxNetwork(TypedDict):
    """The sandbox's network."""

    interfaces: list[NetworkInterface]
    hostname: str


class ProgramEnvironment(TypedDict):
    """What a program of the sandbox starts with."""

    shell: str
    path: str
    user: str
    home: str
    working_dir: str
    environment: dict[str, str]


class CpuUsage(TypedDict):
    """Cores, and the share of them that is used."""

    usage_percent: float
    cores: int


class SpaceUsage(TypedDict):
    """Bytes of memory or disk."""

    total: int
    used: int
    free: int
    usage_percent: float


class MachineUsage(TypedDict):
    """What the sandbox's machine uses."""

    cpu: CpuUsage
    memory: SpaceUsage
    disk: SpaceUsage
    uptime: float


class SystemAnswer(Stamped):
    """Operating system, hardware, environment and usage. ``capabilities`` are languages."""

    os: OperatingSystem
    hardware: Hardware
    network: SandboxNetwork
    environment: ProgramEnvironment
    capabilities: list[str]
    metrics: MachineUsage
    uptime: str


class CacheNumbers(TypedDict):
    """Zeros: there is no cache."""

    size: int
    max_size: int
    hits: int
    misses: int
    hit_rate: float
    total_hits: int


class CacheStats(CacheNumbers, Stamped):
    """The same zeros twice, because clients read either."""

    cache: CacheNumbers
    enabled: bool
    status: Literal["healthy"]


class CacheCleared(Stamped):
    """Nothing was cleared."""

    success: bool
    message: str
    cleared: int


class JobCounts(TypedDict):
    """Background executions: all that are known, and those that run."""

    count: int
    running: int


class CacheCounts(TypedDict):
    """Zeros: there is no cache."""

    size: int
    hits: int
    misses: int
    hit_rate: float


class MetricsFields(TypedDict):
    """What the server has counted since it started, by route where it is a dictionary; durations in milliseconds."""

    uptime_seconds: float
    total_requests: int
    total_errors: int
    error_count: int
    active_executions: int
    total_executions: int
    failed_executions: int
    requests_total: dict[str, int]
    avg_duration_ms: dict[str, float]
    p95_duration_ms: float
    system: MachineUsage
    process: JobCounts
    cache: CacheCounts
    timestamp: str


class MetricsAnswer(MetricsFields, Traced):
    """Everything that is counted."""
