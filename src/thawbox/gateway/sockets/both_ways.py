"""Running the two directions of one connection side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_one_ends(*directions: Coroutine[Any, Any, None]) -> None:
    """Run ``directions`` side by side until the first ends; the others are cancelled in any case.

    Raises:
        Exception: what the first to end raised.
    """
    tasks = [asyncio.create_task(direction) for direction in directions]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
