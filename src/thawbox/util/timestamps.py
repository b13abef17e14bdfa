"""Times in the form that clients can read.

What clients rely on: docs/reference/compatibility/conventions.md#times-and-types.
"""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(seconds: float, digits: int = 3) -> str:
    """Seconds since 1970 as an RFC 3339 time in UTC with ``Z``. ``digits`` is 3 or 6; clients refuse others."""
    moment = _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[: 20 + digits] + "Z"


def rfc3339_or_none(seconds: float | None, digits: int = 3) -> str | None:
    """Like ``rfc3339``; None stays None."""
    return None if seconds is None else rfc3339(seconds, digits)
