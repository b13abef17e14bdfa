"""Which runsc and which agent are used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from thawbox.errors import RuntimeFault
from thawbox.node import installed
from thawbox.settings import Settings, load


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(installed, "DEFAULT_STATE", tmp_path / "default")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return load(state=tmp_path / "state")


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(str(path).encode())
    path.chmod(0o755)
    return path


def test_no_runsc(settings: Settings) -> None:
    with pytest.raises(RuntimeFault, match="runsc is not installed: run sudo thaw setup"):
        installed.installed_runsc(settings)


def test_the_nearest_runsc_is_used(settings: Settings, tmp_path: Path) -> None:
    candidates = [
        tmp_path / "bin" / "runsc",
        tmp_path / "default" / "runtime" / "runsc",
        settings.state / "runtime" / "runsc",
        tmp_path / "mine",
    ]
    settings = settings.model_copy(update={"runsc": tmp_path / "mine"})
    for candidate in candidates:  # from the last to be taken to the first
        program(candidate)
        assert installed.installed_runsc(settings) == candidate


def test_runsc_keeps_its_files_in_the_state_folder(settings: Settings) -> None:
    binary = program(settings.state / "runtime" / "runsc")
    runsc = installed.open_runsc(settings)
    assert (runsc.binary, runsc.digest) == (binary, hashlib.sha256(binary.read_bytes()).hexdigest())
    assert (runsc.root, runsc.upper) == (settings.state / "run" / "runsc", settings.state / "run" / "upper")


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "runsc"
    file.write_bytes(b"one")
    digest = installed.digest_of(file)
    assert digest == hashlib.sha256(b"one").hexdigest()
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time: not looked at again
    assert installed.digest_of(file) == digest
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert installed.digest_of(file) == hashlib.sha256(b"two").hexdigest()
    file.write_bytes(b"three")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert installed.digest_of(file) == hashlib.sha256(b"three").hexdigest()


def test_a_digest_where_nothing_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "runsc"
    file.write_bytes(b"one")
    (tmp_path / "runsc.sha256").mkdir()
    assert installed.digest_of(file) == hashlib.sha256(b"one").hexdigest()


def test_a_configured_agent(settings: Settings) -> None:
    own = Path("/opt/agent.erofs")
    assert installed.agent_image(settings.model_copy(update={"agent_image": own})) == own
