"""Turns one step of a build request, in any dialect, into one step of a recipe.

All spellings: docs/reference/compatibility/templates-build.md#step-spellings.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping

from thawbox.errors import InvalidTemplate

from . import fields
from .recipe import AnyStep, AptStep, CmdStep, CopyStep, EnvStep, RunStep, UserStep, WorkdirStep

Raw = Mapping[str, object]


def parse_step(kind: str, raw: Raw, where: str) -> AnyStep:
    """The recipe's step for ``raw``. ``kind`` is its type in lower case; ``where`` begins errors ("Step 2 (run): ").

    Raises:
        InvalidTemplate: a field is missing or wrong.
    """
    return _PARSERS[kind](raw, where)


def parse_from(raw: Raw, where: str) -> str:
    """The image of a FROM step.

    Raises:
        InvalidTemplate: the image is missing, or is not an image reference.
    """
    found = fields.present(raw, "image")
    if found:
        return fields.image(found[1], f"{where}image")
    args = _args(raw, where)
    if len(args) != 1:
        raise _missing(where, "image", '{"type": "from", "image": "python:3.11"}')
    return fields.image(args[0], f"{where}image")


def skip_cache(raw: Raw, where: str) -> bool:
    """Whether the step has to run even if the cache has its layer.

    Raises:
        InvalidTemplate: the field is neither true nor false.
    """
    return fields.agreed(raw, ("skipCache", "skip_cache"), fields.flag, where=where) or False


def _run(raw: Raw, where: str) -> RunStep:
    command = _single(raw, where, ("command", "cmd"), '{"type": "run", "command": "…"}', join=" ".join)
    return RunStep(command=fields.filled(command, f"{where}command"), skip_cache=skip_cache(raw, where))


def _cmd(raw: Raw, where: str) -> CmdStep:
    # One element is a shell line. Several are an argument list (Docker's exec form), quoted to become a shell line.
    command = _single(raw, where, ("command", "cmd"), '{"type": "cmd", "command": "…"}', join=_shell_line)
    return CmdStep(command=fields.filled(command, f"{where}command"), skip_cache=skip_cache(raw, where))


def _workdir(raw: Raw, where: str) -> WorkdirStep:
    path = _single(raw, where, ("path",), '{"type": "workdir", "path": "/app"}')
    return WorkdirStep(path=fields.path(path, f"{where}path"), skip_cache=skip_cache(raw, where))


def _user(raw: Raw, where: str) -> UserStep:
    user = _single(raw, where, ("user",), '{"type": "user", "user": "app"}')
    return UserStep(user=fields.user(user, f"{where}user"), skip_cache=skip_cache(raw, where))


def _apt(raw: Raw, where: str) -> AptStep:
    found = fields.present(raw, "packages", "args")
    names = fields.texts(found[1], where + found[0]) if found else []
    if not names:
        raise _missing(where, "packages", '{"type": "apt", "packages": ["curl"]}')
    packages = tuple(fields.package(name, f"{where}packages[{index}]") for index, name in enumerate(names))
    return AptStep(packages=packages, skip_cache=skip_cache(raw, where))


def _copy(raw: Raw, where: str) -> CopyStep:
    example = '{"type": "copy", "src": ["app/"], "dest": "/app/"}'
    args = _args(raw, where)
    found = fields.present(raw, "src")
    if found is None:
        sources = args[0].split(",") if args else []
    elif isinstance(found[1], str):
        sources = [found[1]]
    else:
        sources = fields.texts(found[1], f"{where}src")
    if not sources:
        raise _missing(where, "src", example)
    dest = fields.present(raw, "dest")
    if dest is None and len(args) < 2:
        raise _missing(where, "dest", example)
    return CopyStep(
        sources=tuple(fields.path(source, f"{where}src[{index}]") for index, source in enumerate(sources)),
        dest=fields.path(dest[1] if dest else args[1], f"{where}dest"),
        files_hash=fields.agreed(raw, ("filesHash", "files_hash"), fields.files_hash, where=where),
        owner=fields.agreed(raw, ("owner",), fields.user, where=where),
        permissions=fields.agreed(raw, ("permissions",), fields.permissions, where=where),
        skip_cache=skip_cache(raw, where),
    )


def _env(raw: Raw, where: str) -> EnvStep:
    pairs = [
        (fields.env_name(key, f"{where}key"), fields.text(value, f"{where}value"))
        for key, value in _env_pairs(raw, where)
    ]
    for key, value in pairs:
        if len(f"{key}={value}".encode()) > fields.MAX_COMMAND_BYTES:
            raise InvalidTemplate(
                f"{where}value of {fields.quoted(key)} is too long; with its name at most "
                f"{fields.MAX_COMMAND_BYTES} bytes are allowed"
            )
    # If a name occurs twice, the last value counts.
    return EnvStep(variables=tuple(dict(pairs).items()), skip_cache=skip_cache(raw, where))


def _env_pairs(raw: Raw, where: str) -> list[tuple[str, object]]:
    """Names and values in the order given, from any of the four forms; not checked yet."""
    example = '{"type": "env", "key": "NAME", "value": "…"}'
    key = fields.present(raw, "key")
    if key:
        value = fields.present(raw, "value")
        if value is None:
            raise _missing(where, "value", example)
        return [(fields.text(key[1], f"{where}key"), value[1])]
    variables = fields.present(raw, "vars")
    if variables:
        if not isinstance(variables[1], dict) or not variables[1]:
            raise InvalidTemplate(
                f'{where}vars must be an object like {{"NAME": "value"}}, not {fields.quoted(variables[1])}'
            )
        return [(str(name), value) for name, value in variables[1].items()]
    args = _args(raw, where)
    if not args:
        raise _missing(where, "key", example)
    # A name cannot contain "=", so two elements are name and value unless both are whole assignments.
    if len(args) == 2 and not all("=" in arg for arg in args):
        return [(args[0], args[1])]
    for index, arg in enumerate(args):
        if "=" not in arg:
            raise InvalidTemplate(
                f'{where}args[{index}] {fields.quoted(arg)} has no "="; write it like "NAME=value"'
            )
    return [(name, value) for name, _, value in (arg.partition("=") for arg in args)]


def _single(
    raw: Raw,
    where: str,
    names: tuple[str, ...],
    example: str,
    *,
    join: Callable[[list[str]], str] | None = None,
) -> object:
    """The one value of a step: from a field in ``names``, else from ``args`` (the first, or all by ``join``)."""
    found = fields.present(raw, *names)
    if found:
        return found[1]
    args = _args(raw, where)
    if not args:
        raise _missing(where, names[0], example)
    return join(args) if join else args[0]


def _args(raw: Raw, where: str) -> list[str]:
    found = fields.present(raw, "args")
    return fields.texts(found[1], f"{where}args") if found else []


def _shell_line(args: list[str]) -> str:
    return args[0] if len(args) == 1 else shlex.join(args)


def _missing(where: str, field: str, example: str) -> InvalidTemplate:
    return InvalidTemplate(f"{where}{field} is missing; send {example}")


_PARSERS: dict[str, Callable[[Raw, str], AnyStep]] = {
    "apt": _apt,
    "run": _run,
    "copy": _copy,
    "env": _env,
    "workdir": _workdir,
    "user": _user,
    "cmd": _cmd,
}

STEP_TYPES = ("from", *_PARSERS)
"""Every type that a step can have, in lower case."""
