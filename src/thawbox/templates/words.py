"""Splits a line of a Dockerfile into words and expands quotes, escapes and variables, as Docker's lexer does.

The rules differ from a shell's. Inside double quotes the escape character escapes only ``"``, ``$`` and itself. A
variable without a value becomes empty text. The value of a variable is never split into several words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?!$-]")


class WordError(ValueError):
    """The text breaks a rule of the lexer; the message says which."""


def split(text: str, escape: str = "\\") -> list[str]:
    """The words of ``text``, split at white space outside quotes. Quotes and escapes are kept."""
    words: list[str] = []
    word, quote, index = "", "", 0
    while index < len(text):
        char = text[index]
        index += 1
        if char == escape and quote != "'" and index < len(text):
            word += char + text[index]
            index += 1
        elif not quote and char.isspace():
            if word:
                words.append(word)
            word = ""
        else:
            if not quote and char in "'\"":
                quote = char
            elif char == quote:
                quote = ""
            word += char
    return [*words, word] if word else words


def expand(text: str, values: Mapping[str, str], escape: str = "\\") -> str:
    """``text`` without its quotes and escapes, with variables replaced by their ``values``.

    Understood forms: ``$X``, ``${X}``, ``${X:-default}``, ``${X:+other}``, ``${X:?why}``, with and without colon.

    Raises:
        WordError: a quote or brace is not closed, an unsupported form, or ``${X:?why}`` without a value.
    """
    result, rest = _scan(text, values, escape, until="")
    if rest:  # pragma: no cover - without a closing character everything is consumed
        raise WordError(f"unexpected {rest[:20]!r}")
    return result


def heredocs(text: str) -> Iterator[tuple[str, bool, bool]]:
    """For each heredoc that a line opens: its terminator, whether tabs are stripped, whether it was quoted."""
    for word in split(text):
        opened = re.fullmatch(r"[0-9]*<<(-?)([^<]+)", word)
        if opened:
            name = re.sub(r"['\"\\]", "", opened[2])
            yield name, opened[1] == "-", name != opened[2]


def _scan(text: str, values: Mapping[str, str], escape: str, *, until: str) -> tuple[str, str]:
    """Expand up to an unquoted ``until``, which is consumed, or to the end. Returns the result and the rest."""
    done: list[str] = []
    quote, index = "", 0
    while index < len(text):
        char = text[index]
        index += 1
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                done.append(char)
        elif char == escape and index < len(text):
            follower = text[index]
            index += 1
            kept = quote and follower not in {'"', "$", escape}
            done.append(char + follower if kept else follower)
        elif char == '"' or (char == "'" and not quote):
            quote = "" if quote else char
        elif char == until and not quote:
            return "".join(done), text[index:]
        elif char == "$":
            value, rest = _variable(text[index:], values, escape)
            done.append(value)
            text, index = rest, 0
        else:
            done.append(char)
    if quote:
        raise WordError(f"the quote {quote} is not closed")
    if until:
        raise WordError("the brace of ${…} is not closed")
    return "".join(done), ""


def _variable(text: str, values: Mapping[str, str], escape: str) -> tuple[str, str]:
    """The value of the variable at the start of ``text`` (the part after the ``$``), and the rest of ``text``."""
    braced = text.startswith("{")
    found = _NAME.match(text, 1 if braced else 0)
    if not found:
        if braced:
            raise WordError("${…} without a variable name")
        return "$", text
    name, rest = found[0], text[found.end() :]
    if not braced:
        return values.get(name, ""), rest
    if rest.startswith("}"):
        return values.get(name, ""), rest[1:]
    operator = re.match(r":?[-+?]", rest)
    if not operator:
        raise WordError(
            f"${{{name}{rest[:1]}…}} is not supported; use ${{X}}, ${{X:-default}} or ${{X:+other}}"
        )
    word, rest = _scan(rest[operator.end() :], values, escape, until="}")
    there = name in values and (bool(values[name]) or not operator[0].startswith(":"))
    match operator[0][-1]:
        case "-":
            return (values[name] if there else word), rest
        case "+":
            return (word if there else ""), rest
        case _:
            if not there:
                raise WordError(f"{name} has no value: {word or 'it is required'}")
            return values[name], rest
