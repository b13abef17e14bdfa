"""``/metrics``: counts of a sandbox's requests and executions, and what its machine uses.

Its keys: docs/reference/compatibility/gateway.md#metrics.

The counts begin when the server starts. The agent reports what the machine uses.
"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from thawbox import guest
from thawbox.errors import GuestFault
from thawbox.gateway.answers import answers
from thawbox.gateway.counters import Counters, counters_of
from thawbox.gateway.run.execution import agent_unavailable, refusal
from thawbox.gateway.target import Target, target_of
from thawbox.guest import GuestError
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import request_id

from .answers import MachineUsage, MetricsAnswer, MetricsFields, SpaceUsage

router = APIRouter(tags=["metrics"])


@router.get("/metrics/snapshot", responses=answers(MetricsAnswer))
@router.get("/metrics", responses=answers(MetricsAnswer))
async def snapshot(request: Request) -> JSONResponse:
    """Everything that is counted, as JSON."""
    target = await target_of(request)
    answer: MetricsAnswer = {**await _snapshot(target), "request_id": request_id()}
    return JSONResponse(answer)


@router.get("/metrics/prometheus")
async def prometheus(request: Request) -> Response:
    """The same in Prometheus' text format."""
    target = await target_of(request)
    return Response(_exposition(await _snapshot(target)), media_type=CONTENT_TYPE_LATEST)


async def _snapshot(target: Target) -> MetricsFields:
    counters = counters_of(target.sandbox.id)
    try:
        system = await system_of(target)
        jobs = [job.ended is None for job in await guest.list_jobs(target.endpoint)]
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError as error:
        raise refusal(error) from error
    return {
        "uptime_seconds": round(time.time() - target.sandbox.created_at, 3),
        "total_requests": sum(counters.requests.values()),
        "total_errors": counters.errors,
        "error_count": counters.errors,
        "active_executions": counters.active + sum(jobs),
        "total_executions": counters.executions,
        "failed_executions": counters.failed,
        "requests_total": dict(counters.requests),
        "avg_duration_ms": _averages(counters),
        "p95_duration_ms": round(counters.p95_ms, 3),
        "system": system,
        "process": {"count": len(jobs), "running": sum(jobs)},
        "cache": {"size": 0, "hits": 0, "misses": 0, "hit_rate": 0.0},
        "timestamp": rfc3339(time.time()),
    }


def _averages(counters: Counters) -> dict[str, float]:
    return {
        route: round(counters.durations[route] / number, 3) for route, number in counters.requests.items()
    }


async def system_of(target: Target) -> MachineUsage:
    """What the sandbox's machine uses. Sizes are bytes.

    ``usage_percent`` of the CPU covers the time since the last call; at the first call, the time since the oldest
    process began. It counts the processes that are alive now.

    Raises:
        GuestError, GuestFault: the agent refuses, or does not answer.
    """
    usage = await guest.usage(target.endpoint)
    alive = await guest.list_processes(target.endpoint)
    used = sum(process.cpu for process in alive)
    oldest = max((process.age for process in alive), default=0.0)
    busy = counters_of(target.sandbox.id).busy_share(time.monotonic(), used, oldest)
    cores = target.sandbox.cpu
    return {
        "cpu": {"usage_percent": round(min(100.0, 100 * busy / cores), 2), "cores": cores},
        "memory": _space(target.sandbox.memory_mb * 2**20, usage["memory_used"]),
        "disk": _space(usage["disk_total"], usage["disk_used"]),
        "uptime": round(time.time() - target.sandbox.created_at, 3),
    }


def _space(total: int, used: int) -> SpaceUsage:
    return {
        "total": total,
        "used": used,
        "free": max(0, total - used),
        "usage_percent": round(100 * used / total, 2) if total > 0 else 0.0,
    }


def _exposition(metrics: MetricsFields) -> str:
    system = metrics["system"]
    single = {
        "uptime_seconds": ("gauge", metrics["uptime_seconds"]),
        "request_errors_total": ("counter", metrics["total_errors"]),
        "executions_total": ("counter", metrics["total_executions"]),
        "executions_failed_total": ("counter", metrics["failed_executions"]),
        "executions_active": ("gauge", metrics["active_executions"]),
        "cpu_usage_ratio": ("gauge", system["cpu"]["usage_percent"] / 100),
        "memory_bytes": ("gauge", system["memory"]["total"]),
        "memory_used_bytes": ("gauge", system["memory"]["used"]),
        "disk_bytes": ("gauge", system["disk"]["total"]),
        "disk_used_bytes": ("gauge", system["disk"]["used"]),
    }
    lines = ["# TYPE sandbox_requests_total counter"]
    lines += [
        f'sandbox_requests_total{{route="{route}"}} {number}'
        for route, number in metrics["requests_total"].items()
    ]
    for name, (kind, value) in single.items():
        lines += [f"# TYPE sandbox_{name} {kind}", f"sandbox_{name} {value}"]
    return "\n".join(lines) + "\n"
