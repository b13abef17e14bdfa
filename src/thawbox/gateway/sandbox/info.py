"""What a sandbox is: ``/``, ``/ping``, ``/info``, ``/system``; and ``/cache``: there is none.

What clients rely on: docs/reference/compatibility/gateway.md#health-and-information,
docs/reference/compatibility/gateway.md#cache.
"""

from __future__ import annotations

import re
import time

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import JSONResponse

import thawbox
from thawbox import guest
from thawbox.errors import GuestFault
from thawbox.gateway.answers import answers
from thawbox.gateway.context import sandbox_of
from thawbox.gateway.run.execution import agent_unavailable, refusal
from thawbox.gateway.target import Target, target_of
from thawbox.guest import GuestError, System
from thawbox.util.timestamps import rfc3339
from thawbox.web.context import request_id

from .answers import (
    CacheCleared,
    CacheNumbers,
    CacheStats,
    Features,
    InfoAnswer,
    Pong,
    RootAnswer,
    SystemAnswer,
)
from .features import features_of
from .health import duration_text
from .metrics import system_of

router = APIRouter(tags=["information"])

_PORT = "7777"
"""Where clients of the production service find the agent. Here it is behind the sandbox's address."""


@router.get("/", responses=answers(RootAnswer))
async def root(request: Request) -> JSONResponse:
    """Name, version and what is served; needs no token."""
    answer: RootAnswer = {
        "name": "thawbox",
        "agent": "thawbox",
        "version": thawbox.__version__,
        "endpoints": _endpoints(request),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.get("/ping", responses=answers(Pong))
async def ping() -> JSONResponse:
    """Whether the gateway answers; needs no token."""
    answer: Pong = {"status": "ok", "message": "pong"}
    return JSONResponse(answer)


@router.get("/info", responses=answers(InfoAnswer))
async def info(request: Request) -> JSONResponse:
    """The sandbox, its agent, and what it can do."""
    target = await target_of(request)
    system, features = await _described(target)
    seconds = max(0.0, time.time() - target.sandbox.created_at)
    answer: InfoAnswer = {
        "vm_id": target.sandbox.id,
        "agent": "thawbox",
        "agent_version": thawbox.__version__,
        "version": thawbox.__version__,
        "os": "linux",
        "arch": system.machine,
        "platform": f"linux/{system.machine}",
        "vm_ip": target.endpoint.host,
        "ip": target.endpoint.host,
        "vm_port": _PORT,
        "port": _PORT,
        "start_time": rfc3339(target.sandbox.created_at),
        "uptime": seconds,
        "uptime_seconds": int(seconds),
        "endpoints": _endpoints(request),
        "features": features,
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.get("/system", responses=answers(SystemAnswer))
async def system(request: Request) -> JSONResponse:
    """Operating system, hardware, environment and counters."""
    target = await target_of(request)
    described, features = await _described(target)
    try:
        env = await guest.read_environment(target.endpoint, user=target.defaults.user)
        counters = await system_of(target)
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError as error:
        raise refusal(error) from error
    release = _release(described.os_release)
    answer: SystemAnswer = {
        "os": {
            "name": release.get("NAME", "Linux"),
            "version": release.get("VERSION_ID", ""),
            "kernel": described.kernel,
            "arch": described.machine,
            "hostname": described.hostname,
            "timezone": described.timezone,
        },
        "hardware": {
            "cpu_cores": target.sandbox.cpu,
            "cpu_model": described.cpu_model,
            "memory_mb": target.sandbox.memory_mb,
            "disk_mb": target.sandbox.disk_gb * 1024,
        },
        "network": {
            "interfaces": [{"name": "eth0", "ip": target.endpoint.host}],
            "hostname": described.hostname,
        },
        "environment": {
            "shell": env.get("SHELL", "/bin/sh"),
            "path": env.get("PATH", ""),
            "user": env.get("USER", ""),
            "home": env.get("HOME", ""),
            "working_dir": target.workdir,
            "environment": env,
        },
        "capabilities": features["languages"],
        "metrics": counters,
        "uptime": duration_text(int(time.time() - target.sandbox.created_at)),
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.get("/cache/stats", responses=answers(CacheStats))
@router.get("/cache", responses=answers(CacheStats))
async def cache_stats(request: Request) -> JSONResponse:
    """There is no cache: zeros."""
    await sandbox_of(request)
    numbers: CacheNumbers = {
        "size": 0,
        "max_size": 0,
        "hits": 0,
        "misses": 0,
        "hit_rate": 0.0,
        "total_hits": 0,
    }
    answer: CacheStats = {
        "cache": numbers,
        **numbers,
        "enabled": False,
        "status": "healthy",
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


@router.post("/cache/clear", responses=answers(CacheCleared))
async def clear_cache(request: Request) -> JSONResponse:
    """There is nothing to clear."""
    await sandbox_of(request)
    answer: CacheCleared = {
        "success": True,
        "message": "There is no cache: nothing was cleared",
        "cleared": 0,
        "timestamp": rfc3339(time.time()),
        "request_id": request_id(),
    }
    return JSONResponse(answer)


async def _described(target: Target) -> tuple[System, Features]:
    try:
        return await guest.describe(target.endpoint), await features_of(target)
    except GuestFault as error:
        raise agent_unavailable(target, error) from error
    except GuestError as error:
        raise refusal(error) from error


def _endpoints(request: Request) -> dict[str, str]:
    """A name for each path -> its methods and the path."""
    app: FastAPI = request.app
    return {
        re.sub(r"[^a-z]+", "_", path).strip("_") or "root": f"{'|'.join(sorted(methods)).upper()} {path}"
        for path, methods in app.openapi()["paths"].items()
    }


def _release(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines() if "=" in line]
    return {name.strip(): value.strip().strip("\"'") for name, _, value in lines}
