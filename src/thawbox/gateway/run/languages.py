"""How code becomes a command, by language.

The names that clients use: docs/reference/compatibility/execution.md#languages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from thawbox.agent_image import MOUNT_POINT
from thawbox.errors import UserError

NOT_STARTED = 127
"""A shell's exit code for a program that does not exist."""
RUNNER = f"{MOUNT_POINT}/python/run.py"
"""Runs code on the template's own Python, inside."""
_ARGUMENT_MAX = 100 * 1024
"""The kernel's limit for one argument is 128 KB; longer code comes on a file descriptor."""
_MODULE = re.compile(r"^\s*(import\b\s*[^(.\s]|export\s)", re.MULTILINE)
_IMPORT = re.compile(r"\b(?:import|from)[ \t]+([\w., \t]+)")
_IMPORTS_MAX = 50

_ALIASES = {
    "python": "python",
    "python3": "python",
    "node": "javascript",
    "nodejs": "javascript",
    "javascript": "javascript",
    "js": "javascript",
    "bash": "bash",
    "sh": "sh",
    "shell": "sh",
    "go": "go",
}
_PROGRAMS = {
    "python": ("python3", "python"),
    "javascript": ("node", "nodejs"),
    "bash": ("bash",),
    "sh": ("/bin/sh",),
    "go": ("go",),
}
_REMEDIES = {
    "python": "build the template from python:3.11, or install python3 in it",
    "javascript": "build the template from node:20, or install nodejs in it",
    "bash": "install bash in the template, or use language sh",
    "sh": "build the template from an image that has a shell",
    "go": "build the template from golang:1.22, or install golang in it",
}
CANDIDATE_PROGRAMS = tuple(sorted({program for programs in _PROGRAMS.values() for program in programs}))
"""Programs that decide which languages a template has."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """A way to run some code.

    ``rich``: it writes rich results to a file descriptor of their own. ``scratch``: it gets a temporary folder, the
    variable ``THAWBOX_SCRATCH``.
    """

    argv: tuple[str, ...]
    stdin: bytes | None = None
    rich: bool = False
    scratch: bool = False
    imports: tuple[str, ...] = ()
    """Modules that Python code imports."""


def named(language: str) -> str:
    """``language``, which may be an alias, as one of python, javascript, bash, sh and go.

    Raises:
        UserError: there is no such alias.
    """
    known = _ALIASES.get(language.strip().lower())
    if known is None:
        raise UserError(f"Field 'language' is {language[:50]!r}: use one of {', '.join(sorted(_ALIASES))}.")
    return known


def invocations(language: str, code: str) -> list[Invocation]:
    """Ways to run ``code``, best first: the first whose program the template has should be used."""
    text = code.encode()
    match language:
        case "python":
            imports = imported(code)
            return [
                Invocation((name, RUNNER), text, rich=True, imports=imports) for name in _PROGRAMS["python"]
            ]
        case "javascript":
            kind = ("--input-type=module",) if _MODULE.search(code) else ()
            return [Invocation((name, *kind, "-"), text) for name in _PROGRAMS["javascript"]]
        case "go":
            # A shell that is killed leaves the folder behind; the agent removes it in any case.
            script = (
                'command -v go > /dev/null || exit 127; cat > "$THAWBOX_SCRATCH/main.go" || exit 1; '
                'GOTMPDIR="$THAWBOX_SCRATCH" '  # a killed build's leftovers go with the folder
                'go build -o "$THAWBOX_SCRATCH/main" "$THAWBOX_SCRATCH/main.go" < /dev/null || exit; '
                'exec "$THAWBOX_SCRATCH/main" < /dev/null'  # "go run" ends with 1, whatever the program's status
            )
            return [Invocation(("/bin/sh", "-c", script), text, scratch=True)]
        case _:
            program = _PROGRAMS[language][0]
            if len(text) <= _ARGUMENT_MAX:
                return [Invocation((program, "-c", code))]
            script = f"exec 9<&0 0< /dev/null; exec {program} /proc/self/fd/9"
            return [Invocation(("/bin/sh", "-c", script), text)]


def imported(code: str) -> tuple[str, ...]:
    """Top-level names of the modules that Python code imports, as far as its text shows."""
    names = (
        words.split()[0].partition(".")[0]
        for tail in _IMPORT.findall(code)
        for words in tail.split(",")
        if words.split()
    )
    return tuple(dict.fromkeys(names))[:_IMPORTS_MAX]


def lacks(language: str, pid: int, exit_code: int | None, stderr: str | bytes) -> bool:
    """Whether an execution failed because the template lacks the language."""
    return exit_code == NOT_STARTED and (pid == 0 or (language == "go" and not stderr))


def missing(language: str) -> str:
    """The message for a template without ``language``: what to add to it."""
    return f"This template has no {language}: {_REMEDIES[language]}."


def present(programs: Sequence[str]) -> list[str]:
    """The languages of a template that has ``programs``, a part of ``CANDIDATE_PROGRAMS``."""
    return [language for language, names in _PROGRAMS.items() if any(name in programs for name in names)]
