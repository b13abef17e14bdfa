"""Words of a Dockerfile line: splitting, quotes, escapes and variables, by the rules of Docker's own lexer.

The rules differ from a shell's: inside double quotes the escape character escapes only ``"``, ``$`` and
itself; a variable without a value is empty text; its value is never split into several words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?!$-]")


class WordError(ValueError):
    """The text breaks a rule; says which."""


def split(text: str, escape: str = "\\") -> list[str]:
    """``text`` at its unquoted white space; quotes and escapes stay in."""
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
    """``text`` without its quotes and escapes, its variables replaced out of ``values``.

    Forms: ``$X``, ``${X}``, ``${X:-default}``, ``${X:+other}``, ``${X:?why}``, with and without colon.

    Raises:
        WordError: a quote or brace is not closed, an unsupported form, or ``${X:?why}`` without a value.
    """
    result, rest = _scan(text, values, escape, until="")
    if rest:  # pragma: no cover - without a closing character everything is consumed
        raise WordError(f"unexpected {rest[:20]!r}")
    return result


def heredocs(text: str) -> Iterator[tuple[str, bool, bool]]:
    """The heredocs that a line opens: terminator, whether tabs are stripped, whether it was quoted."""
    for word in split(text):
        opened = re.fullmatch(r"[0-9]*<<(-?)([^<]+)", word)
        if opened:
            name = re.sub(r"['\"\\]", "", opened[2])
            yield name, opened[1] == "-", name != opened[2]


def _scan(text: str, values: Mapping[str, str], escape: str, *, until: str) -> tuple[str, str]:
    """Expands up to an unquoted ``until`` (consumed) or the end; gives the result and what is left."""
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
    """The value of the variable that ``text`` (behind the ``$``) begins with, and what follows."""
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
