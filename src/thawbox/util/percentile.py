"""The one definition of a percentile that all figures of ours share."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], rank: float) -> float:
    """The nearest-rank percentile, the smallest value that ``rank`` percent do not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else math.nan
