"""Which names can be bootstrapped."""

from __future__ import annotations

import pytest

from thawbox.images.definitions import find, names
from thawbox.images.reference import parse


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("debian:11", "bullseye"),
        ("debian:bookworm-slim", "bookworm"),
        ("docker.io/library/debian:13", "trixie"),
        ("python:3.9", "bullseye"),
        ("python:3.11-slim", "bookworm"),
        ("python:3.11-slim-bookworm", "bookworm"),
        ("python:3.13-trixie", "trixie"),
        ("node:18-slim", "bookworm"),
        ("node:20-trixie-slim", "trixie"),
    ],
)
def test_known_names(name: str, suite: str) -> None:
    found = find(parse(name))
    assert found is not None
    assert found.suite == suite


@pytest.mark.parametrize(
    "name",
    ["ubuntu:22.04", "alpine:3.18", "python:3.10", "python:3.13-bookworm", "node", "debian", "team/debian:12",
     "example.com/library/debian:12", "debian:12@sha256:" + "0" * 64],
)  # fmt: skip
def test_unknown_names(name: str) -> None:
    assert find(parse(name)) is None


def test_every_name_that_is_advertised_works() -> None:
    assert all(find(parse(name)) for name in names())


def test_slim_images_have_less() -> None:
    full, slim = find(parse("python:3.11")), find(parse("python:3.11-slim"))
    assert full is not None
    assert slim is not None
    assert set(full.packages) - set(slim.packages) == {"git", "curl"}


def test_the_digest_covers_what_goes_in() -> None:
    python, node = find(parse("python:3.11")), find(parse("node:18"))
    assert python is not None
    assert node is not None
    digests = {
        python.digest("amd64"),
        python.digest("arm64"),
        python.digest("amd64", "12.1"),
        node.digest("amd64"),
    }
    assert len(digests) == 4
    assert python.digest("amd64") in digests
