"""Turns a Dockerfile into the body of a build request.

Supported: FROM, ARG, RUN (shell, exec and heredoc form), COPY (also JSON form, ``--chown``, ``--chmod``),
ENV, WORKDIR, USER, CMD. LABEL, EXPOSE and MAINTAINER are ignored with a warning. Every other instruction is an error
that names it.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thawbox.errors import InvalidTemplate

from . import fields, words
from .instructions import Instruction, cut, escape_of, refuse

USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The value of $PATH until the Dockerfile sets it. The base image's own value is not known here."""

_IGNORED = {"LABEL", "EXPOSE", "MAINTAINER"}
_REFUSED = {
    "ADD": "use COPY for files and RUN with curl or tar for downloads and archives",
    "ENTRYPOINT": "use CMD with the whole command line",
    "HEALTHCHECK": "use the ready check of the build request",
    "SHELL": 'write the shell into the command, like RUN bash -c "…"',
    "VOLUME": "use RUN mkdir -p to make the folder",
    "ONBUILD": "write the instruction itself",
    "STOPSIGNAL": "leave it out",
}
_PLATFORM_ARGS = {a + b for a in ("TARGET", "BUILD") for b in ("PLATFORM", "OS", "ARCH", "VARIANT")}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedDockerfile:
    """``body`` is a build request without a name. Each of ``warnings`` is a sentence about something that was ignored
    or assumed."""

    body: dict[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _State:
    escape: str
    build_args: Mapping[str, str]
    image: str | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    before_from: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    cmd: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def values(self) -> dict[str, str]:
        """Variables and their values at this point. ENV takes precedence over ARG."""
        return self.before_from if self.image is None else {"PATH": USUAL_PATH, **self.args, **self.env}


def parse_dockerfile(text: str, *, build_args: Mapping[str, str]) -> ParsedDockerfile:
    """The build request (with ``from_image``, without ``name``) that ``text`` describes.

    The values of ENV and ARG are filled in, so no step of the result contains a variable of the Dockerfile. As in
    Docker, RUN gets ARG values as environment variables (an ``export`` in front of the command), and they do not
    become part of the image. ``build_args`` gives values to ARG.

    Raises:
        InvalidTemplate: it is not a Dockerfile, or uses something that is not supported; the message has the line
            number and the remedy.
    """
    state = _State(escape=escape_of(text), build_args=build_args)
    for instruction in cut(text, state.escape):
        try:
            _apply(instruction, state)
        except words.WordError as error:
            raise refuse(instruction.line, f"{instruction.name}: {error}") from None
    if state.image is None:
        raise InvalidTemplate("The Dockerfile has no FROM; begin it with a line like FROM python:3.11")
    if state.cmd:
        state.steps.append(state.cmd)
    for name in sorted(set(build_args) - state.declared):
        state.warnings.append(
            f"Build argument {fields.quoted(name)} is not declared by any ARG and was not used"
        )
    return ParsedDockerfile(
        body={"from_image": state.image, "steps": state.steps}, warnings=tuple(state.warnings)
    )


def _apply(instruction: Instruction, state: _State) -> None:
    name, line = instruction.name, instruction.line
    if name in _REFUSED:
        raise refuse(line, f"{name} is not supported; {_REFUSED[name]}")
    if name in _IGNORED:
        state.warnings.append(f"Dockerfile line {line}: {name} is ignored")
        return
    if name not in _APPLY:
        raise refuse(line, f"{fields.quoted(name)} is not an instruction; use {', '.join(sorted(_APPLY))}")
    if not instruction.value:
        raise refuse(line, f"{name} is empty; give it a value or remove it")
    if state.image is None and name not in {"FROM", "ARG"}:
        raise refuse(line, f"{name} before FROM; begin with FROM")
    _APPLY[name](instruction, state)


def _from(instruction: Instruction, state: _State) -> None:
    parts = instruction.value.split()
    if state.image is not None:
        raise refuse(instruction.line, "a second FROM (several stages) is not supported; keep one stage")
    if parts[0].startswith("--"):
        flag = parts[0].split("=")[0]
        raise refuse(instruction.line, f"FROM {flag} is not supported; leave it out")
    if not (len(parts) == 1 or (len(parts) == 3 and parts[1].lower() == "as")):
        raise refuse(
            instruction.line, f"FROM {fields.quoted(instruction.value)} is not an image; write FROM NAME:TAG"
        )
    state.image = fields.image(_expand(parts[0], instruction, state), instruction.where)


def _arg(instruction: Instruction, state: _State) -> None:
    scope = state.before_from if state.image is None else state.args
    for word in words.split(instruction.value, state.escape):
        raw_name, has_default, default = word.partition("=")
        name = words.expand(raw_name, {}, state.escape)
        if not (name.isascii() and name.isidentifier()):
            raise refuse(
                instruction.line, f"ARG {fields.quoted(name)} is not a name; use letters, digits and '_'"
            )
        state.declared.add(name)
        if name in state.build_args:
            scope[name] = state.build_args[name]
        elif has_default:
            scope[name] = _expand(default, instruction, state)
        elif name in state.before_from:
            scope[name] = state.before_from[name]
        elif name in _PLATFORM_ARGS:
            state.warnings.append(f"{instruction.where} {name} has no value here; give it a default")


def _env(instruction: Instruction, state: _State) -> None:
    where = instruction.where
    parts = words.split(instruction.value, state.escape)
    if "=" in parts[0]:
        if odd := next((part for part in parts if "=" not in part), None):
            raise refuse(instruction.line, f'ENV {fields.quoted(odd)} has no "="; put the value in quotes')
        pairs = [(name, value) for name, _, value in (part.partition("=") for part in parts)]
    else:
        name, value = parts[0], instruction.value[len(parts[0]) :].strip()
        if not value:
            raise refuse(instruction.line, f"ENV {fields.quoted(name)} has no value; write ENV NAME=value")
        pairs = [(name, value)]
    # All values of one line see the variables as they were before it.
    variables = {
        fields.env_name(_expand(name, instruction, state), where): fields.text(
            _expand(value, instruction, state), where
        )
        for name, value in pairs
    }
    state.env.update(variables)
    state.steps.append({"type": "env", "vars": variables})


def _run(instruction: Instruction, state: _State) -> None:
    flags, rest = _flags(instruction.value)
    if flags:
        name = flags[0].split("=")[0]
        remedy = "leave it out, finished steps are cached anyway" if name == "--mount" else "leave it out"
        raise refuse(instruction.line, f"RUN {name} is not supported; {remedy}")
    command = _command(rest)
    if instruction.heredoc is not None:
        command = _with_heredoc(instruction, command)
    fields.filled(command, instruction.where)
    exports = [f"{name}={shlex.quote(value)}" for name, value in state.args.items() if name not in state.env]
    if exports:
        command = f"export {' '.join(exports)}; {command}"
    state.steps.append({"type": "run", "command": fields.filled(command, instruction.where)})


def _with_heredoc(instruction: Instruction, command: str) -> str:
    """The command line for a RUN with a heredoc. If the heredoc is all of it, its body is the script."""
    body = instruction.heredoc or ""
    terminator = next(words.heredocs(command))[0]
    if not re.fullmatch(r"[0-9]*<<\S+", command):
        return f"{command}\n{body}{terminator}\n"
    if body.startswith("#!"):
        remedy = f"write RUN python3 <<{terminator}"
        raise refuse(instruction.line, f"a heredoc that begins with #! is not supported; {remedy}")
    return body


def _cmd(instruction: Instruction, state: _State) -> None:
    if state.cmd:
        state.warnings.append(f"Dockerfile line {instruction.line}: this CMD replaces the one before")
    command = fields.text(_command(instruction.value), instruction.where)
    state.cmd = {"type": "cmd", "command": command} if command else None


def _workdir(instruction: Instruction, state: _State) -> None:
    path = _expand(instruction.value, instruction, state)
    state.steps.append({"type": "workdir", "path": fields.path(path, instruction.where)})


def _user(instruction: Instruction, state: _State) -> None:
    user = _expand(instruction.value, instruction, state)
    state.steps.append({"type": "user", "user": fields.user(user, instruction.where)})


def _copy(instruction: Instruction, state: _State) -> None:
    flags, rest = _flags(instruction.value)
    options: dict[str, Any] = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        match name:
            case "--chown":
                owner = _expand(value, instruction, state)
                options["owner"] = fields.user(owner, f"{instruction.where} --chown")
            case "--chmod":
                mode = _expand(value, instruction, state)
                fields.permissions(mode, f"{instruction.where} --chmod")
                options["permissions"] = mode
            case "--link":
                state.warnings.append(f"{instruction.where} --link is ignored")
            case "--from":
                raise refuse(
                    instruction.line, "COPY --from is not supported; make the files in a RUN of this image"
                )
            case _:
                raise refuse(instruction.line, f"COPY {name} is not supported; leave it out")
    listed = _json_list(rest)
    paths = [
        fields.path(_expand(part, instruction, state), instruction.where)
        for part in (rest.split() if listed is None else listed)
    ]
    if len(paths) < 2:
        raise refuse(instruction.line, "COPY needs a source and a destination; write COPY SRC DEST")
    state.steps.append({"type": "copy", "src": paths[:-1], "dest": paths[-1], **options})


class _RecordingDict(dict[str, str]):
    """Variables by name. It records in ``missed`` which missing names were looked up."""

    missed: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self.missed.add(name)
        return super().get(name, default)


def _expand(text: str, instruction: Instruction, state: _State) -> str:
    """``text`` with its variables filled in. Warns of those without a value: the base image's are not known."""
    values = _RecordingDict(state.values)
    values.missed = set()
    result = words.expand(text, values, state.escape)
    for name in sorted(values.missed):
        state.warnings.append(f"{instruction.where}: ${name} has no value here and becomes empty text")
    if "PATH" not in {**state.args, **state.env} and re.search(r"\$\{?PATH\b", text):
        state.warnings.append(
            f"{instruction.where}: $PATH stands for {USUAL_PATH}, whatever the base image says"
        )
    return result


def _flags(value: str) -> tuple[list[str], str]:
    """The leading words of the form ``--name[=value]``, and the rest of the text."""
    flags = []
    while value.startswith("--"):
        flag, _, value = value.partition(" ")
        flags.append(flag)
        value = value.lstrip()
    return flags, value


def _command(value: str) -> str:
    """The shell line for ``value``: unchanged, or made from the exec form (a JSON list)."""
    listed = _json_list(value)
    return value if listed is None else shlex.join(listed)


def _json_list(value: str) -> list[str] | None:
    """The list, if ``value`` is a JSON list of texts. Anything else is a shell line, as in Docker."""
    try:
        listed = json.loads(value) if value.startswith("[") else None
    except (ValueError, RecursionError):
        return None
    return listed if isinstance(listed, list) and all(isinstance(item, str) for item in listed) else None


_APPLY: dict[str, Callable[[Instruction, _State], None]] = {
    "FROM": _from,
    "ARG": _arg,
    "RUN": _run,
    "COPY": _copy,
    "ENV": _env,
    "WORKDIR": _workdir,
    "USER": _user,
    "CMD": _cmd,
}
