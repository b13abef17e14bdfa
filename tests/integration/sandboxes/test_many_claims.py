"""Ten thousand claims on one pool; here and not among the unit tests because it takes seconds."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.support.pools import create, filled, waiting
from tests.support.sandboxes import close, make_harness


async def test_ten_thousand_claims_and_none_twice(tmp_path: Path) -> None:
    harness = await make_harness(
        tmp_path / "state", pool_min=80, pool_max=80, pool_shells=15, pool_memory_mb=10**6
    )
    owners: Counter[str] = Counter()
    paths: Counter[str | None] = Counter()
    for _ in range(100):
        await filled(harness)
        rows = await asyncio.gather(*(create(harness) for _ in range(100)))
        owners.update(row.id for row in rows)
        paths.update(row.boot_path for row in rows)
        assert set(harness.runtime.table) >= {row.id for row in rows}
        await asyncio.gather(*(harness.service.delete(row) for row in rows))
    assert owners.total() == 10_000
    assert max(owners.values()) == 1
    assert paths == {"warm": 8000, "shell": 1500, "created": 500}
    await filled(harness)
    assert set(harness.runtime.table) == waiting(harness)
    assert await harness.rows() == []
    await close(harness)
