"""The server: API, gateway, builds and sandboxes in one process."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import IO

from . import log as logs
from .api.app import create_app
from .api.context import ApiContext
from .builder.overlay import unmount_leftovers
from .builder.service import BuildService
from .control.client import ServerNotRunning, send_request
from .control.server import Control
from .control.server import listening as control_socket
from .errors import RuntimeFault
from .gateway import counters
from .gateway.app import create_gateway
from .gateway.run.callback_delivery import delivering
from .machine.selftest import is_proven, run_selftest
from .node.containers import Node
from .node.opening import close_node, open_node
from .sandboxes.events import Events
from .sandboxes.service import SandboxService
from .sandboxes.tokens import open_signer
from .settings import Settings
from .snapshots.garbage import GarbageReport, collect
from .snapshots.pins import Pins
from .state import Layout
from .store.database import Database, open_database
from .web.listener import listener

log = logs.get(__name__)


@dataclass(frozen=True)
class Backend:
    """The services behind the HTTP planes."""

    node: Node
    database: Database
    pins: Pins
    builds: BuildService
    sandboxes: SandboxService
    events: Events


async def serve(settings: Settings) -> None:
    """Run until cancelled. Sandboxes stay when it ends; the next server takes them over.

    Raises:
        RuntimeFault, NoCapacity: the machine lacks something, or another server uses the state folder.
    """
    logs.configure(settings)
    with _locked(settings):
        if not is_proven(settings):
            log.info("selftest", result=await run_selftest(settings))
        async with _backend(settings) as backend:
            context = ApiContext(
                settings=settings,
                database=backend.database,
                builder=backend.builds,
                sandboxes=backend.sandboxes,
                tokens=open_signer(settings),
                events=backend.events,
            )
            control = Control(
                backend.node.layout,
                backend.database,
                backend.pins,
                backend.builds,
                backend.sandboxes.pools,
                backend.node.agent_image.name,
            )
            async with control_socket(settings, control):
                await _listen(settings, context)


async def collect_garbage(settings: Settings) -> GarbageReport:
    """Remove files that nothing refers to. If a server runs, it does this: only it knows what is in use.

    Raises:
        ControlFailed: the running server refused, or we are not root.
        RuntimeFault: a server has the state folder locked and does not answer.
    """
    try:
        (answer,) = await asyncio.to_thread(lambda: list(send_request(settings, {"op": "gc"})))
    except ServerNotRunning:
        with _locked(settings):
            async with _opened(settings) as (layout, database):
                return await collect(layout, database, Pins())
    return GarbageReport(**answer)


@contextlib.asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Layout, Database]]:
    layout = Layout(settings.state.resolve())
    layout.make()
    database = await open_database(settings)
    try:
        yield layout, database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _backend(settings: Settings) -> AsyncIterator[Backend]:
    node = await open_node(settings)
    database = await open_database(settings)
    pins, events = Pins(), Events()
    service = SandboxService(node, database, settings, pins, events)
    backend = Backend(
        node=node,
        database=database,
        pins=pins,
        builds=BuildService(node, database, settings, pins, built=service.pools.prepare),
        sandboxes=service,
        events=events,
    )
    try:
        await unmount_leftovers(node.layout)
        await backend.sandboxes.start()
        await node.slots.warm()
        await backend.builds.start()
        yield backend
    finally:
        await backend.builds.stop()
        survivors = await backend.sandboxes.stop()
        await close_node(node, keep=survivors > 0)
        await database.close()


async def _listen(settings: Settings, context: ApiContext) -> None:
    servers = [
        listener(settings, create_app(context), settings.port),
        listener(settings, create_gateway(context), settings.gateway_port),
    ]
    # The objects that exist now stay. Each full collection would look through them and delay requests by 60 ms.
    gc.collect()
    gc.freeze()
    context.events.on_deleted.append(counters.forget)
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    try:
        async with delivering(context):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeFault("a listener ended by itself")
    finally:
        context.events.close()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    layout = Layout(settings.state.resolve())
    layout.make()
    with open(layout.lock, "w") as lock:
        _lock(lock, settings)
        yield


def _lock(lock: IO[str], settings: Settings) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RuntimeFault(
            f"another server uses the state folder {settings.state}: stop it, or choose another with --state"
        ) from error
