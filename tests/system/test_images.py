"""Base images for real: a registry on loopback with images that are hostile or odd, and a bootstrap."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.system import registry as made
from tests.system.registry import Registry, entry, hardlink, layer, packed, symlink
from thawbox.errors import BuildError
from thawbox.images import scratch, source
from thawbox.images.manifest import architecture
from thawbox.images.prepare import prepare_root
from thawbox.images.source import ImageConfig, ResolvedBase
from thawbox.settings import load
from thawbox.templates.recipe import RegistryCredentials

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LOGIN = RegistryCredentials(kind="basic", username=made.ACCOUNT[0], password=made.ACCOUNT[1])


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with made.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with made.running(tmp_path_factory.mktemp("private"), private=True) as running:
        yield running


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    source.forget()
    yield
    source.forget()


class Puller:
    """Resolves and fetches below a temporary folder; sees to it that nothing else is left there."""

    def __init__(self, folder: Path, hosts: tuple[str, ...]) -> None:
        self.root = folder / "root"
        self.log: list[str] = []
        self.settings = load(
            state=folder / "state", registry_insecure=hosts, registry_timeout_s=5, image_sources=("registry",)
        )

    async def resolve(self, reference: str, credentials: RegistryCredentials | None = None) -> ResolvedBase:
        return await source.resolve(
            reference, settings=self.settings, credentials=credentials, log=self.log.append
        )

    async def fetch(
        self, resolved: ResolvedBase, credentials: RegistryCredentials | None = None
    ) -> ImageConfig:
        self.root.mkdir()
        return await source.fetch(
            resolved, self.root, settings=self.settings, credentials=credentials, log=self.log.append
        )

    async def pull(self, reference: str) -> ImageConfig:
        return await self.fetch(await self.resolve(reference))

    def leftovers(self) -> list[Path]:
        folder = scratch.parent(self.settings)
        return list(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def puller(tmp_path: Path, registry: Registry, private: Registry) -> Iterator[Puller]:
    puller = Puller(tmp_path, (registry.host, private.host))
    yield puller
    assert puller.leftovers() == []


def text(root: Path, name: str) -> str:
    return (root / name).read_text()


async def test_layers_are_flattened(registry: Registry, puller: Puller) -> None:
    lower = layer(
        entry("etc/"), entry("etc/gone", b"x"), entry("etc/kept", b"lower", mode=0o640, uid=1000, gid=1001),
        entry("data/"), entry("data/old", b"x"), entry("data/sub/"), entry("data/sub/old", b"x"),
        entry("tree/"), entry("tree/a/"), entry("tree/a/b", b"x"),
        entry("turns/"), entry("turns/into", b"x"), entry("bin/su", b"x", mode=0o4755),
    )  # fmt: skip
    upper = layer(
        entry("etc/.wh.gone", b""), entry(".wh.tree", b""),
        # The opaque mark may come after the folder's new content, too.
        entry("data/"), entry("data/new", b"new"), entry("data/sub/"), entry("data/sub/new", b"new"),
        entry("data/.wh..wh..opq", b""),
        entry("turns", b"a file now"), hardlink("etc/again", "etc/kept"), symlink("link", "/etc/kept"),
    )  # fmt: skip
    registry.push(
        "flat", "1", [packed(lower), packed(upper)],
        config={"Env": ["PATH=/bin", "A=b=c"], "WorkingDir": "/data", "User": "app", "Cmd": ["run"]},
    )  # fmt: skip
    config = await puller.pull(f"{registry.host}/flat:1")
    root = puller.root
    assert not (root / "etc/gone").exists()
    assert not (root / "tree").exists()
    assert sorted(path.name for path in (root / "data").rglob("*")) == ["new", "new", "sub"]
    assert text(root, "turns") == "a file now"
    kept = (root / "etc/kept").stat()
    assert (kept.st_uid, kept.st_gid, stat.S_IMODE(kept.st_mode)) == (1000, 1001, 0o640)
    assert kept.st_mtime == 1_700_000_000
    assert kept.st_nlink == 2
    assert (root / "etc/again").stat().st_ino == kept.st_ino
    assert (root / "link").readlink() == Path("/etc/kept")
    assert stat.S_IMODE((root / "bin/su").stat().st_mode) == 0o4755
    assert config == ImageConfig(
        env=(("PATH", "/bin"), ("A", "b=c")), workdir="/data", user="app", entrypoint=(), cmd=("run",)
    )


async def test_gzip_zstd_and_plain_layers_in_one_image(registry: Registry, puller: Puller) -> None:
    layers = [packed(layer(entry(kind, kind.encode())), kind) for kind in ("gzip", "zstd", "none")]
    registry.push("mixed", "1", layers)
    await puller.pull(f"{registry.host}/mixed:1")
    assert [text(puller.root, kind) for kind in ("gzip", "zstd", "none")] == ["gzip", "zstd", "none"]


async def test_a_layer_writes_through_links_inside_the_image(registry: Registry, puller: Puller) -> None:
    lower = layer(entry("usr/"), entry("usr/lib/"), symlink("lib", "usr/lib"), symlink("ghost", "/srv/later"))
    upper = layer(entry("lib/module", b"m"), entry("ghost/file", b"g"))
    registry.push("links", "1", [packed(lower), packed(upper)])
    await puller.pull(f"{registry.host}/links:1")
    assert (puller.root / "lib").is_symlink()
    assert text(puller.root, "usr/lib/module") == "m"
    assert text(puller.root, "srv/later/file") == "g"


async def test_a_multi_arch_index_gives_this_machines_image(registry: Registry, puller: Puller) -> None:
    other = registry.push("multi", "", [packed(layer(entry("who", b"other")))], arch="s390x")
    mine = registry.push("multi", "", [packed(layer(entry("who", b"me")))])
    index = registry.index(
        "multi", "1", {"linux/s390x": other, f"linux/{architecture()}": mine, "windows/amd64": other}
    )
    resolved = await puller.resolve(f"{registry.host}/multi:1")
    assert resolved.digest == mine
    assert await puller.resolve(f"{registry.host}/multi@{index}") == replace(
        resolved,
        reference=f"{registry.host}/multi@{index}",
        detail=resolved.detail.replace(":1 ", f"@{index} "),
    )
    await puller.fetch(resolved)
    assert text(puller.root, "who") == "me"


async def test_an_image_for_another_machine_is_refused(registry: Registry, puller: Puller) -> None:
    other = registry.push("other", "", [packed(layer(entry("a", b"")))], arch="s390x")
    registry.index("other", "index", {"linux/s390x": other})
    with pytest.raises(BuildError, match=r"no version for linux/\w+, only for linux/s390x"):
        await puller.resolve(f"{registry.host}/other:index")
    with pytest.raises(BuildError, match="is for linux/s390x"):
        await puller.pull(f"{registry.host}/other@{other}")


@pytest.mark.parametrize(
    ("case", "entries", "said"),
    [
        ("dots", [entry("../escaped", b"x")], "leaves the image"),
        ("deep-dots", [entry("a/../../escaped", b"x")], "leaves the image"),
        ("link-dots", [hardlink("stolen", "../../etc/shadow")], "leaves the image"),
        ("whiteout-dots", [entry(".wh...", b"")], "names no file"),
        ("owner", [entry("a", b"", uid=2**32 - 1)], "impossible owner"),
        ("missing-target", [hardlink("a", "not/there")], "No such file"),
        ("loop", [symlink("loop", "loop"), entry("loop/a", b"x")], "symbolic links|File exists"),
    ],
)
async def test_hostile_layers_are_refused(
    case: str,
    entries: list[tuple[tarfile.TarInfo, bytes]],
    said: str,
    registry: Registry,
    puller: Puller,
    tmp_path: Path,
) -> None:
    registry.push(f"hostile-{case}", "1", [packed(layer(*entries))])
    with pytest.raises(BuildError, match=said):
        await puller.pull(f"{registry.host}/hostile-{case}:1")
    assert list(tmp_path.rglob("escaped")) == []


async def test_links_to_the_outside_stay_inside(registry: Registry, puller: Puller, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    first = layer(
        symlink("abs", str(outside)), symlink("up", "../../../../../.." + str(outside)),
        symlink("etc", str(outside)), symlink("run", str(outside)), symlink("workspace", str(outside)),
        entry("proc/"), symlink("proc/self", str(outside)),
    )  # fmt: skip
    second = layer(
        entry("abs/written", b"x"), entry("up/written", b"y"), hardlink("stolen", "abs/written"),
        entry("abs/.wh.precious", b""), entry("etc/resolv.conf", b"x"), entry("abs/.wh..wh..opq", b""),
    )  # fmt: skip
    registry.push("outside", "1", [packed(first), packed(second)])
    await puller.pull(f"{registry.host}/outside:1")
    assert text(outside, "precious") == "precious"
    assert [path.name for path in outside.iterdir()] == ["precious"]
    inside = puller.root / str(outside).lstrip("/")
    assert text(inside, "written") == "y"
    assert text(puller.root, "stolen") == "y"
    assert (puller.root / "proc").is_dir()
    assert list((puller.root / "proc").iterdir()) == []
    assert not (puller.root / "run").is_symlink()


async def test_the_images_own_python_is_not_run_while_unpacking(registry: Registry, puller: Puller) -> None:
    """Unpacking enters the image; a module that Python would load late must not come from it."""
    trap = b"import os; os.mkdir('/trapped')"
    places = [path.lstrip("/") for path in (os.path.dirname(os.__file__), os.getcwd())]
    names = ("traceback", "linecache", "pwd", "grp", "bz2", "lzma", "sitecustomize", "encodings/idna")
    entries = [entry(f"{place}/{name}.py", trap) for place in places for name in names]
    registry.push("trap", "1", [packed(layer(*entries)), packed(layer(entry("é" * 300, b"")))])
    with pytest.raises(BuildError, match="File name too long"):
        await puller.pull(f"{registry.host}/trap:1")
    assert not (puller.root / "trapped").exists()


async def test_device_nodes_are_left_out(registry: Registry, puller: Puller) -> None:
    disk = entry("disk", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
    null = entry("dev/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    pipe = entry("pipe", type=tarfile.FIFOTYPE)
    registry.push("devices", "1", [packed(layer(disk, entry("dev/"), null, entry("dev/file", b"x"), pipe))])
    await puller.pull(f"{registry.host}/devices:1")
    assert not (puller.root / "disk").exists()
    assert list((puller.root / "dev").iterdir()) == []
    assert (puller.root / "pipe").is_fifo()


async def test_a_bomb_is_stopped(registry: Registry, puller: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = layer(*(entry(f"zeros{number}", bytes(4 * 1024**2)) for number in range(8)))
    registry.push("bomb", "1", [packed(zeros, "zstd"), packed(zeros, "gzip")])
    free = os.statvfs_result((4096, 4096, 0, 0, 10_000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    with pytest.raises(BuildError, match=r"unpacked base image is too big: the limit is 36\.9 MB"):
        await puller.pull(f"{registry.host}/bomb:1")
    assert sum(path.stat().st_size for path in puller.root.iterdir()) < 37_000_000


async def test_many_empty_files_are_a_bomb_too(
    registry: Registry, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("crumbs", "1", [packed(layer(*(entry(str(number), b"") for number in range(10_000))))])
    free = os.statvfs_result((4096, 4096, 0, 0, 1000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    with pytest.raises(BuildError, match="unpacked base image is too big"):
        await puller.pull(f"{registry.host}/crumbs:1")


async def test_what_is_too_big_to_download_is_not_downloaded(
    registry: Registry, puller: Puller, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.push("fat", "1", [packed(layer(entry("noise", os.urandom(5_000_000))))])
    free = os.statvfs_result((4096, 4096, 0, 0, 1000, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: free)
    with pytest.raises(BuildError, match=r"5\.0 MB to download, the limit is 3\.7 MB"):
        await puller.pull(f"{registry.host}/fat:1")


async def test_a_sparse_bomb_is_stopped(registry: Registry, puller: Puller) -> None:
    headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "huge",
               "GNU.sparse.size": str(2**50), "GNU.sparse.map": f"{2**50},0"}  # fmt: skip
    registry.push("sparse", "1", [packed(layer(entry("huge", b"", pax_headers=headers)))])
    puller.settings = puller.settings.model_copy(update={"max_disk_gb": 1})
    with pytest.raises(BuildError, match="unpacked base image is too big"):
        await puller.pull(f"{registry.host}/sparse:1")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_a_damaged_layer_is_refused(compression: str, registry: Registry, puller: Puller) -> None:
    whole = packed(layer(entry("a", os.urandom(100_000)), entry("b", b"x")), compression)
    registry.push("cut", compression, [replace(whole, blob=whole.blob[:50_000])])
    with pytest.raises(BuildError, match="layer 1 of the base image cannot be used"):
        await puller.pull(f"{registry.host}/cut:{compression}")


async def test_a_damaged_header_in_the_middle_is_not_the_end(registry: Registry, puller: Puller) -> None:
    tar = bytearray(layer(entry("a", b""), entry("b", b"")))
    tar[512:520] = b"\xff" * 8
    registry.push("header", "1", [packed(bytes(tar))])
    with pytest.raises(BuildError, match="header is damaged"):
        await puller.pull(f"{registry.host}/header:1")


async def test_an_image_without_layers_becomes_an_empty_root(registry: Registry, puller: Puller) -> None:
    registry.push("scratch", "1", [])
    await puller.pull(f"{registry.host}/scratch:1")
    assert text(puller.root, "etc/passwd").startswith("root:")
    assert {path.name for path in puller.root.iterdir()} == {
        "proc", "sys", "dev", "tmp", "run", "etc", "opt", "workspace",
    }  # fmt: skip


async def test_what_does_not_exist_is_said_so(registry: Registry, puller: Puller) -> None:
    registry.push("there", "1", [])
    for name in ("there:2", "nowhere:1", "there@sha256:" + "0" * 64):
        with pytest.raises(BuildError, match=r"has no such image \(404\)"):
            await puller.resolve(f"{registry.host}/{name}")


async def test_private_images_need_the_right_login(private: Registry, puller: Puller) -> None:
    private.push("secret", "1", [packed(layer(entry("a", b"secret")))])
    name = f"{private.host}/secret:1"
    with pytest.raises(BuildError, match=r"requires a login .*\(401\)"):
        await puller.resolve(name)
    wrong = replace(LOGIN, password="wrong-Pa55word")
    with pytest.raises(BuildError, match="401") as refused:
        await puller.resolve(name, wrong)
    assert "wrong-Pa55word" not in refused.value.message
    resolved = await puller.resolve(name, LOGIN)
    assert resolved.private
    with pytest.raises(BuildError, match="401"):
        await puller.fetch(resolved, None)
    puller.root.rmdir()
    await puller.fetch(resolved, LOGIN)
    assert text(puller.root, "a") == "secret"
    assert not any("horse" in line for line in puller.log)


async def test_the_servers_own_logins_are_not_used(
    private: Registry, puller: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private.push("operators", "1", [])
    home = tmp_path / "home"
    (home / ".docker").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    subprocess.run(
        ["skopeo", "login", "--tls-verify=false", "-u", made.ACCOUNT[0], "--password-stdin", private.host],
        input=made.ACCOUNT[1], text=True, check=True, capture_output=True,
    )  # fmt: skip
    inspect = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{private.host}/operators:1"]
    assert subprocess.run(inspect, capture_output=True).returncode == 0
    with pytest.raises(BuildError, match="401"):
        await puller.resolve(f"{private.host}/operators:1")


async def test_a_refused_login_ends_the_search(private: Registry, puller: Puller) -> None:
    puller.settings = puller.settings.model_copy(update={"image_sources": ("registry", "bootstrap")})
    with pytest.raises(BuildError, match="401") as refused:
        await puller.resolve(f"{private.host}/library/debian:12", replace(LOGIN, password="no"))
    assert "bootstrap:" not in refused.value.message


async def test_mirrors_are_asked_instead(registry: Registry, puller: Puller) -> None:
    registry.push("through/library/debian", "12", [packed(layer(entry("via", b"mirror")))])
    registry.push("through/team/app", "1", [packed(layer(entry("via", b"star")))])
    mirrors = {"docker.io": f"{registry.host}/through", "*": f"{registry.host}/through/"}
    puller.settings = puller.settings.model_copy(update={"registry_mirrors": mirrors})
    resolved = await puller.resolve("debian:12")
    assert resolved.reference == "docker.io/library/debian:12"
    assert registry.host in resolved.detail
    assert not resolved.private
    await puller.fetch(resolved)
    assert text(puller.root, "via") == "mirror"
    assert (await puller.resolve("registry.invalid/team/app:1")).source == "registry"


async def test_a_login_goes_to_the_host_it_is_for_not_to_a_mirror(
    registry: Registry, private: Registry, puller: Puller
) -> None:
    registry.push("team/app", "1", [packed(layer(entry("via", b"mirror")))])
    private.push("team/app", "1", [packed(layer(entry("via", b"itself")))])
    puller.settings = puller.settings.model_copy(update={"registry_mirrors": {"*": registry.host}})
    await puller.fetch(await puller.resolve(f"{private.host}/team/app:1", LOGIN), LOGIN)
    assert text(puller.root, "via") == "itself"


async def test_plain_http_must_be_allowed(registry: Registry, puller: Puller) -> None:
    registry.push("plain", "1", [])
    puller.settings = puller.settings.model_copy(update={"registry_insecure": ()})
    with pytest.raises(BuildError, match="registry_insecure"):
        await puller.resolve(f"{registry.host}/plain:1")


async def test_unreachable_registries_are_told_from_missing_images(puller: Puller) -> None:
    for host in ("registry.invalid", "127.0.0.1:1"):
        with pytest.raises(BuildError, match=rf"{host} is unreachable"):
            await puller.resolve(f"{host}/debian:12")


async def test_a_registry_that_never_answers_is_unreachable(puller: Puller) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    puller.settings = puller.settings.model_copy(update={"registry_timeout_s": 1})
    async with server:
        with pytest.raises(BuildError, match=rf"{host} is unreachable \(no answer within 1 s\)"):
            await puller.resolve(f"{host}/debian:12")


async def test_a_cancelled_pull_leaves_only_its_destination(registry: Registry, puller: Puller) -> None:
    big = layer(*(entry(f"f{number}", os.urandom(4 * 1024**2)) for number in range(16)))
    registry.push("big", "1", [packed(big, "none"), packed(layer(entry("last", b"")))])
    resolved = await puller.resolve(f"{registry.host}/big:1")
    begun = asyncio.Event()
    puller.root.mkdir()

    def log(line: str) -> None:
        if line.startswith("Downloaded"):
            begun.set()

    pulling = asyncio.create_task(
        source.fetch(resolved, puller.root, settings=puller.settings, credentials=None, log=log)
    )
    await begun.wait()
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert puller.leftovers() == []
    assert not (puller.root / "last").exists()
    shutil.rmtree(puller.root)  # nobody writes there any more


async def test_names_that_nobody_delivers_say_which_would_work(puller: Puller) -> None:
    puller.settings = puller.settings.model_copy(
        update={"image_sources": ("registry", "bootstrap"), "registry_mirrors": {"*": "registry.invalid"}}
    )
    for name in ("ubuntu:22.04", "python:3.10", "alpine:3.18", "node:16"):
        with pytest.raises(BuildError) as failure:
            await puller.resolve(name)
        for part in (name, "registry.invalid is unreachable", "debian:12", "python:3.11", "node:20"):
            assert part in failure.value.message


async def test_debian_from_packages(tmp_path: Path) -> None:
    puller = Puller(tmp_path, ())
    puller.settings = puller.settings.model_copy(update={"image_sources": ("bootstrap",)})
    resolved = await puller.resolve("debian:12-slim")
    assert resolved.source == "bootstrap"
    assert resolved.digest == (await puller.resolve("debian:bookworm")).digest
    config = await puller.fetch(resolved)
    root = puller.root
    assert dict(config.env)["PATH"].startswith("/usr/local/sbin:")
    assert "VERSION_CODENAME=bookworm" in text(root, "etc/os-release")
    assert (root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 100_000
    assert "bookworm-security" in text(root, "etc/apt/sources.list")
    assert "signed-by" not in text(root, "etc/apt/sources.list")
    assert list((root / "dev").iterdir()) == list((root / "proc").iterdir()) == []
    assert text(root, "etc/resolv.conf") == ""
    assert [path for path in (root / "var/cache/apt").rglob("*") if path.suffix in (".deb", ".bin")] == []
    assert not (root / "etc/apt/apt.conf.d/99mmdebstrap").exists()
    assert stat.S_IMODE((root / "usr/bin/passwd").stat().st_mode) == 0o4755
    assert (root / "usr/share/doc/dpkg/copyright").exists()
    assert list(root.rglob("changelog*.gz")) == []
    assert list((puller.settings.state / "cache/apt/bookworm").glob("dpkg_*.deb"))
    assert puller.leftovers() == []
    assert str(root) not in Path("/proc/mounts").read_text()
    audit = subprocess.run(["chroot", str(root), "dpkg", "--audit"], capture_output=True, text=True)
    assert (audit.returncode, audit.stdout) == (0, "")


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("python:3.13-slim", ["python --version", "python3 --version", "pip --version", "pip3 --version",
                              "pip3 install --no-index --no-deps --ignore-installed /usr/share/python-wheels/pip-*.whl",
                              "python3 -m venv --without-pip /tmp/v"]),
        ("node:18-slim", ["node --version", "npm --version", "npx --version",
                          'test "$(npm config get prefix)" = /usr/local']),
    ],
)  # fmt: skip
async def test_languages_from_packages(name: str, commands: list[str], tmp_path: Path) -> None:
    puller = Puller(tmp_path, ())
    puller.settings = puller.settings.model_copy(update={"image_sources": ("bootstrap",)})
    config = await puller.pull(name)
    for command in commands:
        inside = ["env", "-i", *(f"{name}={value}" for name, value in config.env), "sh", "-c", command]
        ended = subprocess.run(["chroot", str(puller.root), *inside], capture_output=True, text=True)
        assert ended.returncode == 0, (command, ended.stderr)
    programs = {path.name for path in (puller.root / "usr/local/bin").iterdir()}
    wanted = {"python", "python3", "pip", "pip3"} if "python" in name else {"node", "npm", "npx"}
    assert wanted <= programs


async def test_preparing_a_hostile_tree(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside, root, root / "etc", root / "dev", root / "real-opt"):
        folder.mkdir()
    (outside / "file").write_text("precious")
    for name in ("proc", "sys", "run", "workspace"):
        (root / name).symlink_to(outside)
    (root / "dev/link").symlink_to(outside)
    (root / "tmp").write_text("a file")
    (root / "opt").symlink_to("real-opt")
    for name in ("resolv.conf", "hosts", "passwd"):
        (root / "etc" / name).symlink_to(outside / "file")
    (root / "etc/hostname").mkdir()
    (root / "etc/group").write_text("root:x:0:\nmine:x:5:\n")
    for _ in range(2):
        await prepare_root(root)
        assert [path.name for path in outside.iterdir()] == ["file"]
        assert text(outside, "file") == "precious"
        for name in ("proc", "sys", "run", "run/thawbox", "dev", "tmp", "workspace", "real-opt/thawbox"):
            assert (root / name).is_dir()
            assert not (root / name).is_symlink()
            left = {path.name for path in (root / name).iterdir()}
            assert left == {"run": {"thawbox"}, "tmp": {".keep"}}.get(name, set())
        assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
        for name in ("resolv.conf", "hosts", "hostname", "passwd"):
            assert (root / "etc" / name).is_file()
            assert not (root / "etc" / name).is_symlink()
        assert text(root, "etc/passwd").startswith("root:x:0:0:")
        assert "mine" in text(root, "etc/group")


async def test_a_cancelled_bootstrap_leaves_no_process_and_no_mount(tmp_path: Path) -> None:
    puller = Puller(tmp_path, ())
    puller.settings = puller.settings.model_copy(update={"image_sources": ("bootstrap",)})
    resolved = await puller.resolve("debian:12")
    puller.root.mkdir()
    installing = asyncio.Event()

    def log(line: str) -> None:
        if "installing essential" in line:
            installing.set()

    making = asyncio.create_task(
        source.fetch(resolved, puller.root, settings=puller.settings, credentials=None, log=log)
    )
    await installing.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert puller.leftovers() == []
    assert str(puller.root) not in Path("/proc/mounts").read_text()
    assert [pid for pid in Path("/proc").glob("[0-9]*") if _root_of(pid).startswith(str(puller.root))] == []
    shutil.rmtree(puller.root)  # this machine's /dev was bound in there
    assert Path("/dev/null").is_char_device()


async def test_a_mirror_that_does_not_answer_fails_the_bootstrap_at_once(tmp_path: Path) -> None:
    puller = Puller(tmp_path, ())
    puller.settings = puller.settings.model_copy(
        update={"image_sources": ("bootstrap",), "debian_mirror": "http://127.0.0.1:1/debian"}
    )
    with pytest.raises(BuildError, match="the Debian mirror does not deliver"):
        await puller.resolve("debian:12")


def _root_of(pid: Path) -> str:
    try:
        return str((pid / "root").readlink())
    except OSError:
        return ""
