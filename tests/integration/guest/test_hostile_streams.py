"""Whatever a guest sends, every operation of the client ends with its result or an error that we know."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.hostile_agent import lying_agent
from thawbox import guest
from thawbox.agent import protocol
from thawbox.agent.protocol import encode_frame, encode_json
from thawbox.errors import GuestFault
from thawbox.guest import Endpoint, GuestError, reach

Call = Callable[[Endpoint], Awaitable[object]]


async def _read(endpoint: Endpoint) -> object:
    async with guest.read_file(endpoint, "/x") as (_, chunks):
        return [chunk async for chunk in chunks]


async def _dial(endpoint: Endpoint) -> object:
    async with reach._dialled(endpoint, 80) as sock:
        loop = asyncio.get_running_loop()
        while await loop.sock_recv(sock, 65536):
            pass
        return None


CALLS: dict[str, Call] = {
    "ping": guest.ping,
    "usage": guest.usage,
    "quiesce": guest.quiesce,
    "init": lambda endpoint: guest.init(endpoint, env={}),
    "probe": lambda endpoint: guest.probe(endpoint, "port", 80),
    "run": lambda endpoint: guest.run(endpoint, argv=["true"], timeout=5, output_limit=1000),
    "stat": lambda endpoint: guest.stat(endpoint, "/x"),
    "list": lambda endpoint: guest.list_dir(endpoint, "/x"),
    "mkdir": lambda endpoint: guest.mkdir(endpoint, "/x"),
    "remove": lambda endpoint: guest.remove(endpoint, "/x"),
    "read": _read,
    "write": lambda endpoint: guest.write_file(endpoint, "/x", b"data"),
    "dial": _dial,
}

_KINDS = [*sorted(protocol.FROM_GUEST | protocol.TO_GUEST), 0, 255]
_NAMES = st.sampled_from(
    ["pid", "uptime", "time", "ok", "code", "message", "size", "type", "entries", "name", "mode", "timed_out",
     "truncated", "seconds", "signal", "memory_total", "load", "mtime", "uid", "gid", "path", "info"]
)  # fmt: skip
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(_NAMES, _VALUES, max_size=8)
_FRAMES = st.builds(
    encode_frame,
    st.sampled_from(_KINDS),
    st.binary(max_size=50) | st.one_of(_OBJECTS, _VALUES).map(encode_json),
)
_STREAMS = st.lists(_FRAMES | st.binary(max_size=20), max_size=6).map(b"".join)


@pytest.mark.parametrize("name", CALLS)
def test_any_stream_ends_in_bounds(name: str) -> None:
    @given(said=_STREAMS)
    @example(said=b"")
    @example(said=encode_frame(protocol.RESULT, b"{}"))
    @example(said=encode_frame(protocol.ERROR, b'{"code":"X","message":"m"}'))
    @example(said=encode_frame(protocol.STARTED, b'{"pid":1}') + encode_frame(protocol.EXIT, b"{}"))
    @example(said=encode_frame(protocol.STARTED, b"{}") + encode_frame(protocol.DATA, b"x") * 3)
    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ends(said: bytes) -> None:
        async def ask() -> None:
            async with lying_agent(said) as endpoint, asyncio.timeout(10):
                with contextlib.suppress(GuestFault, GuestError):
                    await CALLS[name](endpoint)

        asyncio.run(ask())

    ends()
