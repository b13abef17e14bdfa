"""The control socket: operations that only the running server can do, for root on its machine.

The socket is ``control.sock`` in the state folder, which only root can enter. A request is a line of JSON with ``op``.
The answer is one or more lines of JSON; after the last one the server closes the connection:

* ``gc``: what was removed, the fields of ``snapshots.garbage.GarbageReport``.
* ``pools``: ``{"pools": [...]}``, the pools as ``Pools.figures`` describes them.
* ``catalogue``: ``{"templates": [...]}``, the templates of the catalogue and the status of each.
* ``catalogue_build`` with ``name`` and ``no_cache``: builds a template of the catalogue. While the build runs, lines
  with ``log`` or ``status``; then ``{"end": {...}}``. The build goes on if the client closes the connection.

If a request cannot be carried out, the answer is ``{"error": sentence}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from thawbox import log as logs
from thawbox.builder import log as buildlog
from thawbox.builder.service import BuildService
from thawbox.catalog.entries import CatalogEntry, entries
from thawbox.errors import ThawboxError, UserError
from thawbox.sandboxes.pools.keeper import Pools
from thawbox.settings import Settings
from thawbox.snapshots.garbage import collect
from thawbox.snapshots.pins import Pins
from thawbox.state import Layout
from thawbox.store import builds, templates
from thawbox.store.database import Database

log = logs.get(__name__)

POLL_S = 0.25


class Control:
    """Carries out the operations of the control socket."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        pins: Pins,
        service: BuildService,
        pools: Pools,
        agent_image: str,
    ) -> None:
        self._agent_image = agent_image
        self._pools = pools
        self._layout = layout
        self._database = database
        self._pins = pins
        self._builds = service

    async def answer(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Carry out a request and yield the lines of its answer.

        Raises:
            ThawboxError: it cannot be carried out; the message is for the client.
        """
        match request.get("op"):
            case "gc":
                yield asdict(await collect(self._layout, self._database, self._pins, self._agent_image))
            case "pools":
                yield {"pools": self._pools.figures()}
            case "catalogue":
                yield {"templates": [await self._state_of(entry) for entry in entries()]}
            case "catalogue_build":
                async for line in self._build(request):
                    yield line
            case op:
                raise UserError(f"this server knows no operation {op!r}: is it older than this program?")

    async def _state_of(self, entry: CatalogEntry) -> dict[str, Any]:
        async with self._database.read() as connection:
            row = await templates.get_own(connection, None, entry.name)
        return {
            "name": entry.name,
            "display_name": entry.about.display_name,
            "description": entry.about.description,
            "category": entry.about.category,
            "id": None if row is None else str(row.id),
            "status": "not built" if row is None else row.status,
            "error_message": None if row is None else row.error_message,
        }

    async def _build(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        known = {entry.name: entry for entry in entries()}
        entry = known.get(str(request.get("name")))
        if entry is None:
            raise UserError(f"The catalogue has no {request.get('name')!r}; it has {', '.join(known)}")
        template_id = await self._builds.submit_public(entry, skip_cache=bool(request.get("no_cache")))
        offset = 0
        while True:
            # Status before log: the log that is read after a final status is complete.
            async with self._database.read() as connection:
                build = await builds.newest(connection, template_id)
            assert build is not None
            text, offset = await asyncio.to_thread(buildlog.read_text, self._builds.log_path(build), offset)
            if text:
                yield {"log": text.rstrip("\n").split("\n")}
            state = {"status": build.status, "progress": build.progress, "current_step": build.current_step}
            if build.ended:
                yield {
                    "end": {**state, "template_id": str(template_id), "error_message": build.error_message}
                }
                return
            yield {"status": state}
            await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def listening(settings: Settings, control: Control) -> AsyncIterator[None]:
    """Answer requests at the control socket as long as the block lasts."""
    path = Layout(settings.state).control_socket
    path.unlink(missing_ok=True)
    answering: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        try:
            with contextlib.suppress(ConnectionError):
                async for line in _lines(control, await reader.readline()):
                    writer.write(json.dumps(line).encode() + b"\n")
                    await writer.drain()
        except Exception:
            log.exception("control_request_broke")
        finally:
            answering.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        async with server:
            try:
                yield
            finally:
                for task in answering:  # else the server would wait until a client's build has ended
                    task.cancel()
    finally:
        path.unlink(missing_ok=True)


async def _lines(control: Control, line: bytes) -> AsyncIterator[dict[str, Any]]:
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise UserError("a request is a line with a JSON object")
        async for answer in control.answer(request):
            yield answer
    except ValueError:
        yield {"error": "a request is a line with a JSON object"}
    except ThawboxError as error:
        yield {"error": error.message}
