"""JSON bodies: hostile until checked."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from thawbox.errors import UserError

from .errors import sentence

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """Base of request bodies: types are strict (no "1" for 1); unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


async def read_json(request: Request, max_bytes: int, *, surrogates: bool = False) -> dict[str, Any]:
    """The request's JSON object, of at most ``max_bytes``.

    Its strings are valid Unicode, or with ``surrogates`` may have single surrogates. They may contain NUL.

    Raises:
        UserError: wrong content type, too large, not UTF-8, not JSON, not an object.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UserError(
            f"Content-Type is {kind[:100]!r}: send the body as application/json."
            if kind
            else "Content-Type is missing: send the body as application/json."
        )
    raw = await _read(request, max_bytes)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"The body is not valid UTF-8 (at byte {error.start}).") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UserError(f"The body is not valid JSON: {error.msg} at line {error.lineno}.") from None
    except (ValueError, RecursionError):
        raise UserError(
            "The body is not usable JSON: too deeply nested, or a number with too many digits."
        ) from None
    if not isinstance(value, dict):
        raise UserError("The body must be a JSON object.")
    if "\\u" in text and not surrogates:
        _check_unicode(value)
    return value


def parse(model: type[M], value: dict[str, Any]) -> M:
    """``value`` as ``model``.

    Raises:
        UserError: one sentence about the first field that is wrong.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise UserError(sentence(error.errors(include_url=False, include_input=False))) from None


async def read_model(request: Request, model: type[M], max_bytes: int, *, surrogates: bool = False) -> M:
    """The request's body as ``model``; arguments and errors as ``read_json`` and ``parse``."""
    return parse(model, await read_json(request, max_bytes, surrogates=surrogates))


def usable_environment(env: dict[str, str] | None) -> dict[str, str] | None:
    """``env``, if it can be an environment; for validators of bodies.

    Raises:
        ValueError: a name is empty or has "=" or NUL, or a value has NUL.
    """
    for name, value in (env or {}).items():
        if not name or "=" in name or "\x00" in name:
            raise ValueError("a variable's name must not be empty nor contain '=' or NUL")
        if "\x00" in value:
            raise ValueError("a variable's value must not contain NUL")
    return env


async def _read(request: Request, max_bytes: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > max_bytes:
        _refuse_size(max_bytes)
    chunks = bytearray()
    try:
        async for chunk in request.stream():
            chunks += chunk
            if len(chunks) > max_bytes:
                _refuse_size(max_bytes)
    except ClientDisconnect:
        raise UserError("The body broke off.") from None
    return bytes(chunks)


def _refuse_size(max_bytes: int) -> NoReturn:
    raise UserError(f"The body is larger than {max_bytes} bytes, the most that this server accepts.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check_unicode(value: Any) -> None:
    # An escape can be half a surrogate pair, which no database, file name or answer can hold.
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UserError("The body has a string with half a surrogate pair (\\ud800 to \\udfff).") from None
    except RecursionError:
        raise UserError("The body is too deeply nested.") from None
