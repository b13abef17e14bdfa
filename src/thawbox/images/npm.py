"""The npm of node images: the npm package, fetched by this machine's npm with its configuration.

Debian's ``npm`` package needs 365 others. Measured for node:20: 15 s and 214 MB more.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from thawbox import processes
from thawbox.settings import Settings
from thawbox.state import Layout

from . import scratch
from .definitions import NPM
from .values import Log

_TIMEOUT_S = 60
_FRESH_S = 30 * 86_400
_CONFIGURATION = ("home", "node_extra_ca_certs", "node_options")


async def tarball(settings: Settings, log: Log) -> Path | None:
    """The npm package as a file in the cache; None if this machine has no npm, or its npm cannot fetch it."""
    cached = Layout(settings.state).cache / "npm" / f"npm-{NPM}.tgz"
    if cached.exists() and time.time() - cached.stat().st_mtime < _FRESH_S:
        return cached
    reason = await _fetch(cached, settings)
    if reason is None or cached.exists():
        return cached
    log(
        f"npm {NPM} is not available through this machine's npm ({reason}): using Debian's npm, which is larger"
    )
    return None


async def _fetch(target: Path, settings: Settings) -> str | None:
    """Put the package at ``target``. Returns the reason if it cannot, else None."""
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name.lower() in _CONFIGURATION or name.lower().startswith("npm_config_")
    }
    async with scratch.folder(settings) as folder:
        args = ["npm", "pack", f"npm@{NPM}", "--pack-destination", str(folder), "--loglevel=error"]
        try:
            ended = await processes.run(
                args,
                timeout_s=_TIMEOUT_S,
                check=False,
                env=processes.plain_environment(**chosen),
                cwd=folder,
                die_with_parent=True,
            )
        except processes.ProgramMissing:
            return "it is not installed"
        except processes.TimedOut:
            return f"no answer within {_TIMEOUT_S} s"
        packed = list(folder.glob("npm-*.tgz"))
        if ended.status or len(packed) != 1:
            return ended.tail[-1] if ended.tail else f"exit status {ended.status}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # The package keeps its 1985 date otherwise, and would never be fresh.
        os.utime(packed[0])
        packed[0].replace(target)
    return None
