"""Conversion of database rows to immutable dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")

MAX_ID = 2**31 - 1
"""Largest number that an id column can hold on every database."""


def value(cls: type[T], row: sa.Row[Any]) -> T:
    """Return ``row`` as the dataclass ``cls``, whose fields have the columns' names. JSON lists become tuples."""
    return cls(**{name: _frozen(item) for name, item in row._mapping.items()})


def value_or_none(cls: type[T], row: sa.Row[Any] | None) -> T | None:
    """As ``value``, but None for None."""
    return None if row is None else value(cls, row)


def columns_of(instance: Any) -> dict[str, Any]:
    """The fields of a row's dataclass, ready for INSERT."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _frozen(item: Any) -> Any:
    return tuple(item) if isinstance(item, list) else item
