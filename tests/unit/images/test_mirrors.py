"""Which Debian mirror is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawbox.images import mirrors
from thawbox.images.mirrors import Mirror

DEB822 = """\
# A comment
Types: deb deb-src
URIs: https://user:secret@mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs:
 https://security.example/debian-security
# in between
Suites: bookworm-security
Components: main

Types: deb
URIs: https://vendor.example/apt
Suites: stable
Components: main
"""

ONE_LINE = """\
deb [arch=amd64 signed-by=/k] https://mirror.example/debian bookworm main contrib  # a comment
#deb https://old.example/debian bookworm main
deb-src https://sources.example/debian bookworm main
deb https://security.example/debian-security bookworm-security main
deb https://mirror.example/debian bookworm-updates main
"""

WANTED = Mirror(
    "https://mirror.example/debian",
    "https://mirror.example/debian",
    "https://security.example/debian-security",
)


def etc(folder: Path, *, release: str = "ID=debian\nVERSION_CODENAME=bookworm\n", **files: str) -> Path:
    """An /etc with these files below apt; ``_`` stands for ``.``, ``__`` for ``/``."""
    (folder / "apt/sources.list.d").mkdir(parents=True)
    (folder / "os-release").write_text(release)
    for name, content in files.items():
        (folder / "apt" / name.replace("__", "/").replace("_", ".")).write_text(content)
    return folder


def test_deb822_sources(tmp_path: Path) -> None:
    assert mirrors.of_host(etc(tmp_path, sources_list="", sources_list_d__debian_sources=DEB822)) == WANTED


def test_one_line_sources(tmp_path: Path) -> None:
    assert mirrors.of_host(etc(tmp_path, sources_list=ONE_LINE)) == WANTED


def test_a_host_without_security_source(tmp_path: Path) -> None:
    found = mirrors.of_host(etc(tmp_path, sources_list="deb http://mirror.example/debian bookworm main\n"))
    assert found == Mirror("http://mirror.example/debian", None, None)


def test_the_old_name_of_the_security_suite(tmp_path: Path) -> None:
    lines = "deb http://m.example/debian buster main\ndeb http://s.example/security buster/updates main\n"
    found = mirrors.of_host(
        etc(tmp_path, release='ID=debian\nVERSION_CODENAME="buster"\n', sources_list=lines)
    )
    assert found is not None
    assert found.security == "http://s.example/security"


@pytest.mark.parametrize(
    ("release", "lines"),
    [
        ("ID=ubuntu\nVERSION_CODENAME=bookworm\n", ONE_LINE),
        ("ID=debian\nVERSION_CODENAME=trixie\n", ONE_LINE),
        ("ID=debian\n", ONE_LINE),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "deb file:/srv/debian bookworm main\n"),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "deb cdrom:[Debian]/ bookworm main\n"),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", "deb\ndeb x\n[\n"),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", ""),
    ],
)
def test_hosts_whose_sources_do_not_fit(release: str, lines: str, tmp_path: Path) -> None:
    assert mirrors.of_host(etc(tmp_path, release=release, sources_list=lines)) is None


def test_disabled_sources_are_left_out(tmp_path: Path) -> None:
    disabled = "Enabled: no\n" + DEB822.removeprefix("# A comment\n")
    assert mirrors.of_host(etc(tmp_path, sources_list_d__debian_sources=disabled)) is None


def test_a_list_of_mirrors_stands_for_its_first(tmp_path: Path) -> None:
    host = tmp_path / "etc"
    etc(host, sources_list="deb mirror+file:/etc/apt/mirrors.list bookworm main\n")
    (host / "apt/mirrors.list").write_text(
        "# ours\nhttps://first.example/debian priority:1\nhttps://second.example\n"
    )
    assert mirrors.of_host(host) == Mirror("https://first.example/debian", None, None)


def test_the_operators_mirror() -> None:
    main = "http://m.example/debian"
    assert mirrors.configured(main) == Mirror(main, main, "http://m.example/debian-security")
    assert mirrors.configured(f"{main}/ http://s.example/x").security == "http://s.example/x"


def test_lines_for_another_suite() -> None:
    assert WANTED.sources("trixie", options="signed-by=/k")[-1] == (
        "deb [signed-by=/k] https://security.example/debian-security trixie-security main"
    )
    assert WANTED.without(["-security"]).sources("trixie") == [
        "deb https://mirror.example/debian trixie main",
        "deb https://mirror.example/debian trixie-updates main",
    ]
    assert mirrors.from_lines(WANTED.sources("trixie"), "trixie") == WANTED
    assert mirrors.from_lines(WANTED.sources("trixie"), "bookworm") is None


def test_addresses_of_release_files() -> None:
    assert WANTED.releases("trixie")[2] == (
        "-security",
        "https://security.example/debian-security/dists/trixie-security/InRelease",
    )
