"""The agent's image: a relocated CPython with the agent, as one read-only EROFS file.

It is mounted at ``MOUNT_POINT`` in every sandbox, so a template needs no interpreter: the image has its own loader and
every shared library, and works in a root that holds nothing else. All sandboxes share its pages.

Everything in it is byte code without sources, at optimisation level 2: half the size, and no docstrings in memory. Only
what the template's own Python runs is there as source.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import RuntimeFault

MOUNT_POINT = "/opt/thawbox"
INTERPRETER_ARGV: tuple[str, ...] = (
    f"{MOUNT_POINT}/ld.so",
    "--library-path",
    f"{MOUNT_POINT}/lib",
    f"{MOUNT_POINT}/bin/python3",
    "-I",
    "-S",
)
"""The image's own interpreter, as a command inside a sandbox."""
AGENT_ARGV: tuple[str, ...] = (*INTERPRETER_ARGV, f"{MOUNT_POINT}/agent/agent.pyc")
"""Process 1 of every sandbox."""
AGENT_ENV: tuple[str, ...] = (
    "MALLOC_ARENA_MAX=1",  # else every thread that serves a connection leaves an arena behind
    "MALLOC_TRIM_THRESHOLD_=131072",
    "LANG=C.UTF-8",
)
"""Its environment; commands that it starts do not inherit it."""

AGENT_IMAGES = "agent-*.erofs"
"""Names of the agent's images; the asterisk stands for a hash of the inputs."""
_AGENT = Path(__file__).parent / "agent"
_TEMPLATE_SIDE = "python"
"""Folder of what runs on the template's own Python, of any version: these files stay sources."""
_LEFT_OUT = frozenset(
    [
        "__pycache__",
        "test",
        "tests",
        "idlelib",
        "tkinter",
        "turtledemo",
        "lib2to3",
        "ensurepip",
        "distutils",
        "pydoc_data",
        "site-packages",
        "dist-packages",
        "config",
        "venv",
        "unittest",
        "curses",
        "dbm",
        "sqlite3",
        "wsgiref",
        "xmlrpc",
        "msilib",
        "turtle.py",
        "pydoc.py",
        "doctest.py",
        "pdb.py",
        "antigravity.py",
        "this.py",
        "sitecustomize.py",
    ]
)
_LEFT_OUT_MODULES = (
    "_tkinter",
    "_test",
    "_xxtest",
    "xxlimited",
    "_curses",
    "_dbm",
    "_gdbm",
    "_sqlite3",
    "readline",
)
_FORMAT = "1"
"""Part of the hash: raise it when this file changes how the image is made from the same inputs."""

_COMPILE = """
import py_compile, sys
for line in sys.stdin:
    source, target, name = line.rstrip("\\n").split("\\t")
    py_compile.compile(source, target, name, doraise=True, optimize=2,
                       invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
"""
_DESCRIBE = """
import sys, sysconfig
print(sys.version_info[0], sys.version_info[1], sep=".")
print(sysconfig.get_path("stdlib"))
print(sysconfig.get_config_var("DESTSHARED"))
print(sys.executable)
"""


@dataclass(frozen=True)
class AgentImage:
    """An image file; ``sha256`` is of its content, in hexadecimal."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class _Python:
    version: str
    stdlib: Path
    extensions: Path
    executable: Path


def build_agent_image(destination_dir: Path, python: Path = Path("/usr/bin/python3")) -> AgentImage:
    """Make the image from the machine's ``python`` (3.11 or newer) unless it exists already.

    Its name holds a hash of its inputs, so the name changes exactly when they do.

    Raises:
        RuntimeFault: ``python`` is too old, or ``mkfs.erofs`` or ``ldd`` is missing or fails.
    """
    found = _describe(python)
    libraries, loader = _libraries(found)
    inputs = _inputs(found, libraries, loader)
    digest = _digest(inputs)
    destination_dir.mkdir(parents=True, exist_ok=True)
    final = destination_dir / AGENT_IMAGES.replace("*", digest[:16])
    if not final.exists():
        with tempfile.TemporaryDirectory(prefix=".agent-", dir=destination_dir) as work:
            tree = Path(work) / "tree"
            _populate(tree, inputs, found)
            image = Path(work) / "image"
            _make_erofs(tree, image, digest)
            image.chmod(0o644)
            with image.open("rb") as file:
                os.fsync(file.fileno())
            image.replace(final)
    return AgentImage(final, _file_digest(final))


def _describe(python: Path) -> _Python:
    lines = _run([str(python), "-I", "-c", _DESCRIBE]).splitlines()
    version = lines[0]
    if tuple(int(part) for part in version.split(".")) < (3, 11):
        raise RuntimeFault(f"{python} is Python {version}; the agent needs 3.11 or newer: name a newer one")
    return _Python(version, Path(lines[1]), Path(lines[2]), Path(lines[3]).resolve())


def _libraries(python: _Python) -> tuple[dict[str, Path], Path]:
    """The shared libraries that the interpreter and its modules need, by soname, and the loader."""
    libraries: dict[str, Path] = {}
    loader: Path | None = None
    for line in _run(["ldd", str(python.executable), *map(str, _extension_files(python))]).splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] == "=>" and words[2].startswith("/"):
            libraries[words[0]] = Path(words[2]).resolve()
        elif words and words[0].startswith("/") and "/ld-" in words[0] and not words[0].endswith(":"):
            loader = Path(words[0]).resolve()
    if loader is None:
        raise RuntimeFault(f"{python.executable} is not a dynamically linked program; name another Python")
    return libraries, loader


def _extension_files(python: _Python) -> list[Path]:
    return sorted(
        path for path in python.extensions.glob("*.so") if not path.name.startswith(_LEFT_OUT_MODULES)
    )


def _inputs(python: _Python, libraries: dict[str, Path], loader: Path) -> dict[str, Path]:
    """The inputs: path inside the image (a .py becomes .pyc) -> file of this machine."""
    lib = f"lib/python{python.version}"
    inputs = {"bin/python3": python.executable, "ld.so": loader}
    inputs |= {f"lib/{soname}": path for soname, path in libraries.items()}
    inputs |= {f"{lib}/lib-dynload/{path.name}": path for path in _extension_files(python)}
    inputs |= {f"{lib}/{path.relative_to(python.stdlib)}": path for path in _stdlib_files(python.stdlib)}
    inputs |= {f"{_TEMPLATE_SIDE}/{path.name}": path for path in (_AGENT / _TEMPLATE_SIDE).glob("*.py")}
    return inputs | {f"agent/{path.name}": path for path in _AGENT.glob("*.py")}


def _stdlib_files(stdlib: Path) -> Iterable[Path]:
    for folder, names, files in os.walk(stdlib):
        names[:] = [name for name in names if name not in _LEFT_OUT and not name.startswith("config-")]
        for name in files:
            path = Path(folder) / name
            if name.endswith(".py") and name not in _LEFT_OUT and path.exists():
                yield path


def _digest(inputs: dict[str, Path]) -> str:
    whole = hashlib.sha256(_FORMAT.encode())
    for name, path in sorted(inputs.items()):
        whole.update(f"{name}\0{_file_digest(path)}\n".encode())
    return whole.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _populate(tree: Path, inputs: dict[str, Path], python: _Python) -> None:
    to_compile: list[str] = []
    for name, source in inputs.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py") and not name.startswith(f"{_TEMPLATE_SIDE}/"):
            to_compile.append(f"{source}\t{target}c\t{MOUNT_POINT}/{name}")
        else:
            shutil.copyfile(source, target)
            target.chmod(0o755)
    _run([str(python.executable), "-I", "-c", _COMPILE], stdin="\n".join(to_compile) + "\n")
    _strip([tree / name for name in inputs if not name.endswith(".py")])


def _strip(binaries: list[Path]) -> None:
    """Drop symbols that only debuggers read; a machine without ``strip`` gets a somewhat larger image."""
    if (strip := shutil.which("strip")) is not None:
        subprocess.run([strip, "--strip-unneeded", *map(str, binaries)], check=False, capture_output=True)


def _make_erofs(tree: Path, image: Path, digest: str) -> None:
    # gVisor reads only uncompressed images without xattrs; noinline_data avoids its old bugs with inline
    # tails.
    # Fixed times and UUID: the same content gives the same file on every machine.
    identity = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
    options = ["-x-1", "-E", "noinline_data", "-T0", "-U", identity, "--all-root", "--quiet"]
    _run(["mkfs.erofs", *options, str(image), str(tree)])


def _run(argv: list[str], stdin: str | None = None) -> str:
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeFault(f"{argv[0]} is not installed: run sudo thaw setup --install-packages") from error
    if done.returncode != 0:
        raise RuntimeFault(f"{argv[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
    return done.stdout
