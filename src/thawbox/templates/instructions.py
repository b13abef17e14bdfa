"""Splits the text of a Dockerfile into instructions.

The library ``dockerfile-parse`` handles comments, continuations and the escape directive. It does not know heredocs,
ends an instruction at an empty line, drops an instruction whose continuation reaches the end of the text, and takes an
escaped escape character for a continuation. This module makes up for each of these.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Any

from dockerfile_parse import DockerfileParser

from thawbox.errors import InvalidTemplate

from . import fields, words

MAX_BYTES = 1024 * 1024
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(\S+)\s*", re.I)
_DIRECTIVE = re.compile(r"#\s*[A-Za-z][A-Za-z0-9]*\s*=.*")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, such as ``RUN make``; ``name`` is in capitals, ``value`` is the rest of it."""

    line: int
    """1-based."""
    name: str
    value: str
    heredoc: str | None = None
    """The text between the line and the terminator, if the instruction opens a heredoc."""

    @property
    def where(self) -> str:
        """The words that begin error messages about this instruction."""
        return f"Dockerfile line {self.line}: {self.name}"


def escape_of(text: str) -> str:
    """The escape character: a backslash, or the backtick if a directive at the top chooses it.

    Raises:
        InvalidTemplate: the directive names another character.
    """
    for line in text.removeprefix("\ufeff").splitlines():
        if not _DIRECTIVE.fullmatch(line.strip()):
            break
        if found := _ESCAPE.fullmatch(line.strip()):
            if found[1] not in {"\\", "`"}:
                name = fields.quoted(found[1])
                raise InvalidTemplate(f"The Dockerfile's escape directive names {name}; use \\ or `")
            return found[1]
    return "\\"


def cut(text: str, escape: str) -> list[Instruction]:
    """The instructions of ``text`` in order, each with its heredoc.

    Raises:
        InvalidTemplate: ``text`` is not text, or has a heredoc that is not closed or not supported.
    """
    lines = _lines(text, escape)
    heredocs: dict[int, str] = {}
    searched = -1
    while True:
        # The body of a heredoc is removed (its lines turn into comments) before the text is split again.
        structure = [entry for entry in _structure(lines) if entry["instruction"] != "COMMENT"]
        opener = next((entry for entry in structure if entry["startline"] > searched and _opens(entry)), None)
        if opener is None:
            break
        searched = opener["startline"]
        heredocs[searched] = _take_heredoc(lines, opener)
    for entry in structure:
        for number in range(entry["startline"], min(entry["endline"] + 1, len(lines))):
            if lines[number].rstrip().endswith(escape * 2):
                raise refuse(
                    number, f"a line that ends with {escape * 2} is not supported; write something after it"
                )
    return [
        Instruction(number, entry["instruction"], entry["value"].strip(), heredocs.get(number))
        for entry in structure
        for number in (entry["startline"],)
    ]


def _lines(text: str, escape: str) -> list[str]:
    """The lines of ``text``; the index is the 1-based line number."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidTemplate("The Dockerfile is not valid UTF-8; save it as UTF-8") from None
    if size > MAX_BYTES or "\0" in text:
        raise InvalidTemplate(
            f"The Dockerfile is not text of at most {MAX_BYTES} bytes; check the file's name"
        )
    # The directive in front moves everything down by one line, so that indices are line numbers.
    return [f"# escape={escape}", *text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")]


def _structure(lines: list[str]) -> list[dict[str, Any]]:
    # Empty lines become comments: inside a continuation Docker skips both, but the library skips only comments.
    # The empty line at the end ends a continuation that reaches the end of the text.
    joined = "\n".join(line if line.strip() else "#" for line in lines) + "\n\n"
    structure: list[dict[str, Any]] = DockerfileParser(fileobj=io.BytesIO(joined.encode())).structure
    return structure


def _opens(entry: dict[str, Any]) -> bool:
    if entry["instruction"] not in {"RUN", "COPY", "ADD"}:
        return False
    return not entry["value"].startswith("[") and any(words.heredocs(entry["value"]))


def _take_heredoc(lines: list[str], opener: dict[str, Any]) -> str:
    """The text between ``opener`` and its terminator. Both the text and the terminator are removed from ``lines``."""
    number = opener["startline"]
    opened = list(words.heredocs(opener["value"]))
    if opener["instruction"] != "RUN":
        raise refuse(
            number, f"{opener['instruction']} with a heredoc is not supported; use RUN cat > FILE <<EOF"
        )
    if len(opened) > 1:
        raise refuse(number, "several heredocs in one RUN are not supported; use one RUN for each")
    terminator, strip_tabs, _ = opened[0]
    body: list[str] = []
    for index in range(opener["endline"] + 1, len(lines)):
        line = lines[index].lstrip("\t") if strip_tabs else lines[index]
        lines[index] = "#"
        if line == terminator:
            return "".join(part + "\n" for part in body)
        body.append(line)
    raise refuse(number, f"the heredoc is not closed; end it with a line {terminator}")


def refuse(line: int, sentence: str) -> InvalidTemplate:
    """The error for something in line ``line`` (1-based); the caller raises it."""
    return InvalidTemplate(f"Dockerfile line {line}: {sentence}")
