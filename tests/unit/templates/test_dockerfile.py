"""Dockerfiles become build requests, or are refused with line number and remedy."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.errors import InvalidTemplate
from thawbox.settings import load
from thawbox.templates import words
from thawbox.templates.dialects import parse_recipe
from thawbox.templates.dockerfile import USUAL_PATH, ParsedDockerfile, parse_dockerfile
from thawbox.templates.recipe import CmdStep, CopyStep, EnvStep, RunStep, UserStep, WorkdirStep


def parse(text: str, **build_args: str) -> ParsedDockerfile:
    return parse_dockerfile(text, build_args=build_args)


def steps(text: str, **build_args: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = parse("FROM debian:12\n" + text, **build_args).body["steps"]
    return listed


def refusal(text: str) -> str:
    with pytest.raises(InvalidTemplate) as caught:
        parse(text)
    return caught.value.message


def test_a_whole_file_is_a_recipe() -> None:
    parsed = parse(
        """# syntax=docker/dockerfile:1
ARG VERSION=3.11
FROM python:${VERSION}-slim AS app

LABEL maintainer=me
ENV PATH=/opt/bin:$PATH MODE="very fast"
WORKDIR /app
COPY --chown=app:app --chmod=0644 a.txt "b.txt" ./
RUN pip install \\
    # a comment inside

    flask
USER app
EXPOSE 80
CMD ["python", "my app.py"]
"""
    )
    recipe = parse_recipe({"name": "t", **parsed.body}, settings=load())
    assert recipe.base_image == "python:3.11-slim"
    assert recipe.steps == (
        EnvStep(variables=(("PATH", f"/opt/bin:{USUAL_PATH}"), ("MODE", "very fast"))),
        WorkdirStep(path="/app"),
        CopyStep(sources=("a.txt", "b.txt"), dest="./", owner="app:app", permissions=0o644),
        RunStep(command="pip install     flask"),
        UserStep(user="app"),
        CmdStep(command="python 'my app.py'"),
    )
    assert recipe.start_cmd == "python 'my app.py'"
    assert parsed.warnings[0] == "Dockerfile line 5: LABEL is ignored"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("RUN a && b", "a && b"),
        ("run a", "a"),
        ('RUN ["a", "b c"]', "a 'b c'"),
        ("RUN [ -f x ] && y", "[ -f x ] && y"),
        ("RUN echo $HOME '${X:-y}'", "echo $HOME '${X:-y}'"),
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\  \n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN tail \\\n", "tail"),
        ("RUN <<EOF\na\n\n# b \\\nEOF\nUSER x", "a\n\n# b \\\n"),
        ("RUN <<-EOF\n\ta\n\tEOF", "a\n"),
        ("RUN python3 <<'PY' > /o\nprint(1)\nRUN x\nPY", "python3 <<'PY' > /o\nprint(1)\nRUN x\nPY\n"),
        ("RUN cat <<A && \\\n b\nx\nA", "cat <<A &&  b\nx\nA\n"),
        ("RUN echo $((1<<2)) <<<x", "echo $((1<<2)) <<<x"),
        ('RUN echo "a <<EOF"', 'echo "a <<EOF"'),
    ],
)
def test_run(text: str, command: str) -> None:
    assert steps(text)[0] == {"type": "run", "command": command}


def test_backtick_escape() -> None:
    body = parse("# escape=`\nFROM debian:12\nRUN a `\n b\nENV P=C:\\dir Q=a` b\n").body
    assert body["steps"] == [
        {"type": "run", "command": "a  b"},
        {"type": "env", "vars": {"P": "C:\\dir", "Q": "a b"}},
    ]


def test_arg_reaches_run_but_not_the_image() -> None:
    listed = steps("ARG A=1\nARG B\nARG C='x y'\nENV C=env\nRUN x\nRUN <<E\ny\nE\n", B="it's")
    assert listed == [
        {"type": "env", "vars": {"C": "env"}},
        {"type": "run", "command": "export A=1 B='it'\"'\"'s'; x"},
        {"type": "run", "command": "export A=1 B='it'\"'\"'s'; y\n"},
    ]


def test_arg_before_from_is_seen_behind_it_only_when_declared_again() -> None:
    text = "ARG V=1\nFROM x:$V\nENV A=$V\nARG V\nENV B=$V\n"
    assert [step["vars"] for step in parse(text).body["steps"]] == [{"A": ""}, {"B": "1"}]
    assert parse(text, V="2").body["from_image"] == "x:2"
    assert parse("ARG A=1\nARG B=x:$A\nFROM $B").body["from_image"] == "x:1"


def test_variables_of_one_env_line_see_the_values_before_it() -> None:
    listed = steps("ENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc")
    assert listed[1]["vars"] == {"abc": "bye", "def": "hello"}
    assert listed[2]["vars"] == {"ghi": "bye"}


def test_env_beats_arg() -> None:
    assert steps("ENV A=env\nARG A=arg\nWORKDIR /$A")[1] == {"type": "workdir", "path": "/env"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ('A="b c"', "b c"),
        ("A='$X b'", "$X b"),
        ("A=b\\ c", "b c"),
        ('A="b\\"c\\d"', 'b"c\\d'),
        ("A b  c", "b  c"),
        ('A "b c"', "b c"),
        ("A=\\$X", "$X"),
        ("A=$X-${X}-$NONE.", "x-x-."),
        ("A=${NONE:-d}${X:-d}${EMPTY:-e}${EMPTY-f}", "dxe"),
        ("A=${X:+yes}${NONE:+no}${EMPTY:+no}${EMPTY+y}", "yesy"),
        ("A=${NONE:-${X}y}", "xy"),
        ('A="${NONE:-a b}"', "a b"),
        ("A=${X:?gone}", "x"),
        ("A=$", "$"),
        ("A=a$/b", "a$/b"),
    ],
)
def test_env_values(text: str, value: str) -> None:
    assert steps(f"ENV X=x EMPTY=\nENV {text}")[1]["vars"] == {"A": value}


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("COPY a /b", {"type": "copy", "src": ["a"], "dest": "/b"}),
        ('COPY ["a b", "c", "d/"]', {"type": "copy", "src": ["a b", "c"], "dest": "d/"}),
        (
            "COPY --chmod=755 --chown=$U:1 a b",
            {"type": "copy", "src": ["a"], "dest": "b", "owner": "u:1", "permissions": "755"},
        ),
        ("COPY --link a $U/", {"type": "copy", "src": ["a"], "dest": "u/"}),
        ("WORKDIR rel/$U", {"type": "workdir", "path": "rel/u"}),
        ("USER ${U}:${G:-g}", {"type": "user", "user": "u:g"}),
        ("CMD a $U", {"type": "cmd", "command": "a $U"}),
        ("CMD old\nCMD new", {"type": "cmd", "command": "new"}),
    ],
)
def test_other_instructions(text: str, step: dict[str, Any]) -> None:
    assert steps(f"ENV U=u\n{text}")[1:] == [step]


def test_empty_cmd_takes_it_back() -> None:
    assert steps("CMD a\nCMD []") == []


def test_the_base_images_variables_are_not_known() -> None:
    parsed = parse("FROM x\nENV P=$PATH:/x H=$JAVA_HOME D=${NONE:-d}\nENV PATH=/y\nENV Q=$PATH")
    assert parsed.body["steps"][0]["vars"] == {"P": f"{USUAL_PATH}:/x", "H": "", "D": "d"}
    assert parsed.body["steps"][2]["vars"] == {"Q": "/y"}
    assert len(parsed.warnings) == 2
    assert "$PATH stands for" in parsed.warnings[0]
    assert "$JAVA_HOME has no value" in parsed.warnings[1]


def test_warnings() -> None:
    parsed = parse("FROM x\nMAINTAINER me\nARG TARGETARCH\nCOPY --link a b\nCMD a\nCMD b", UNUSED="1")
    assert len(parsed.warnings) == 5
    assert all(
        name in " ".join(parsed.warnings) for name in ("MAINTAINER", "TARGETARCH", "--link", "CMD", "UNUSED")
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "The Dockerfile has no FROM"),
        ("# nothing\n\n", "The Dockerfile has no FROM"),
        ("RUN x", "line 1: RUN before FROM"),
        ("FROM a\nADD x y", "line 2: ADD is not supported; use COPY"),
        ("FROM a\n\n# c\nadd x y", "line 4: ADD is not supported"),
        ("FROM a\nENTRYPOINT x", "line 2: ENTRYPOINT is not supported; use CMD"),
        ("FROM a\nHEALTHCHECK NONE", "HEALTHCHECK is not supported; use the ready check"),
        ('FROM a\nSHELL ["x"]', "SHELL is not supported"),
        ("FROM a\nVOLUME /x", "VOLUME is not supported"),
        ("FROM a\nONBUILD RUN x", "ONBUILD is not supported"),
        ("FROM a\nSTOPSIGNAL 9", "STOPSIGNAL is not supported"),
        ("FROM a AS b\nFROM c", "line 2: a second FROM"),
        ("FROM --platform=linux/amd64 a", "FROM --platform is not supported"),
        ("FROM a b", 'FROM "a b" is not an image'),
        ("FROM $NONE", "line 1: FROM"),
        ("FROM A", "is not an image reference"),
        ("FROM a\nCOPY --from=b x y", "COPY --from is not supported"),
        ("FROM a\nCOPY --parents x y", "COPY --parents is not supported"),
        ("FROM a\nCOPY x", "COPY needs a source and a destination"),
        ("FROM a\nCOPY <<E /x\na\nE", "COPY with a heredoc is not supported; use RUN cat"),
        ("FROM a\nCOPY --chmod=u+x a b", "line 2: COPY --chmod"),
        ("FROM a\nCOPY --chown=a;b a b", "line 2: COPY --chown"),
        ("FROM a\nRUN --mount=type=cache,target=/x y", "RUN --mount is not supported; leave it out"),
        ("FROM a\nRUN --network=none y", "RUN --network is not supported"),
        ("FROM a\nRUN", "line 2: RUN is empty"),
        ("FROM a\nRUN []", "line 2: RUN is empty"),
        ("FROM a\nRUN <<E\nx", "the heredoc is not closed; end it with a line E"),
        ("FROM a\nRUN <<A <<B\nA\nB", "several heredocs"),
        ("FROM a\nRUN <<E\n#!/bin/sh\nE", "begins with #!"),
        ("FROM a\nRUN x \\\\\nRUN y", "line 2: a line that ends with"),
        ("FROM a\nENV A", 'ENV "A" has no value'),
        ("FROM a\nENV A=1 B", 'ENV "B" has no "="'),
        ("FROM a\nENV 1A=1", "line 2: ENV"),
        ("FROM a\nENV A='x", "the quote ' is not closed"),
        ("FROM a\nENV A=${X", "line 2: ENV: "),
        ("FROM a\nENV A=${X%y}", "is not supported"),
        ('FROM a\nENV A="${X:?must be set}"', "X has no value: must be set"),
        ("FROM a\nENV A=${}", "without a variable name"),
        ("FROM a\nARG a-b=1", 'ARG "a-b" is not a name'),
        ("FROM a\nUSER a b", "line 2: USER"),
        ("FROM a\nWORKDIR $NONE", "line 2: WORKDIR is empty"),
        ("FROM a\nFOO bar", 'line 2: "FOO" is not an instruction; use ARG, CMD'),
        ("FROM a\nRUN \0", "is not text"),
        ("FROM a\nRUN \ud800", "is not valid UTF-8"),
        ("# escape=x\nFROM a", "escape directive"),
        ("FROM a\nRUN " + "x" * 200_000, "line 2: RUN is 200000 bytes long"),
    ],
)
def test_refusals(text: str, words: str) -> None:
    message = refusal(text)
    assert words in message
    assert "\n" not in message


LINES = st.lists(
    st.builds(
        "{} {}".format,
        st.sampled_from(["FROM", "RUN", "COPY", "ENV", "ARG", "WORKDIR", "USER", "CMD", "ADD", "#", ""]),
        st.text(st.sampled_from("ab =$\\{}:-+?'\"[],/<E\n#`é\0")),
    )
).map("\n".join)


@given(LINES | st.text())
def test_any_text_gives_a_body_that_the_server_takes_or_a_refusal(text: str) -> None:
    try:
        parsed = parse(text)
    except InvalidTemplate:
        return
    parse_recipe({"name": "t", **parsed.body}, settings=load(max_steps=1000))


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_expanding_gives_text_or_says_why(text: str, values: dict[str, str]) -> None:
    with contextlib.suppress(words.WordError):
        assert isinstance(words.expand(text, values), str)


@given(st.lists(st.from_regex(r"[a-z'\"\\\\ ]+", fullmatch=True)))
def test_quoted_words_survive_splitting(parts: list[str]) -> None:
    quoted = ['"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts]
    assert [words.expand(word, {}) for word in words.split("  ".join(quoted))] == parts
