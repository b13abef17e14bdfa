"""The definition of a percentile that all reported figures share."""

from __future__ import annotations

import math
from collections.abc import Iterable


def percentile(values: Iterable[float], rank: float) -> float:
    """The nearest-rank percentile: the smallest value that at least ``rank`` percent (0 to 100) of all values do not
    exceed. NaN if there are no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(rank / 100 * len(ordered)) - 1)] if ordered else math.nan
