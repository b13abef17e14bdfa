"""Image references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.errors import BuildError
from thawbox.images.reference import parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("docker.io/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("index.docker.io/library/debian:12", "docker.io/library/debian:12", "debian:12"),
        ("ubuntu/node:20-22.04_edge", "docker.io/ubuntu/node:20-22.04_edge", "ubuntu/node:20-22.04_edge"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"),
        ("example.com/app", "example.com/app:latest", "example.com/app:latest"),
        (f"debian@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
        (f"debian:12@{DIGEST}", f"docker.io/library/debian@{DIGEST}", f"debian@{DIGEST}"),
    ],
)
def test_names_are_completed(text: str, full: str, short: str) -> None:
    assert str(parse(text)) == full
    assert parse(text).short == short


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must have 1 to 512 characters"),
        ("a" * 513, "must have 1 to 512 characters"),
        ("https://example.com/app", "leave out the part up to"),
        ("docker://debian", "leave out the part up to"),
        ("Debian:12", "lower-case"),
        ("debian:", "a tag has"),
        ("debian:-1", "a tag has"),
        ("debian:12@", "nothing follows"),
        ("debian@sha256:12", "64 hexadecimal digits"),
        ("debian@md5:" + "0" * 32, "64 hexadecimal digits"),
        ("debian 12", "lower-case"),
        ("debian\n", "lower-case"),
        ("--help", "lower-case"),
        ("a//b", "lower-case"),
        ("../etc/passwd", "not a registry host"),
        ("example.com:port/app", "not a registry host"),
        ("/app", "lower-case"),
        (":12", "lower-case"),
    ],
)
def test_what_is_no_reference_is_named(text: str, said: str) -> None:
    with pytest.raises(BuildError, match=said):
        parse(text)


@given(st.text(alphabet="aA0./:@-_ \n[]~%sha256", max_size=40))
def test_whatever_is_taken_is_safe_on_a_command_line(text: str) -> None:
    try:
        name = str(parse(text))
    except BuildError:
        return
    assert name[0] not in "-/."
    assert ".." not in name
    assert not set(name) & set(" \n~%")
    assert str(parse(name)) == name
