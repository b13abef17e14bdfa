"""Every dialect (docs/reference/compatibility/templates-build.md#dialects), and every mistake."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.errors import InvalidTemplate
from thawbox.settings import load
from thawbox.templates.codec import recipe_to_json
from thawbox.templates.dialects import parse_recipe
from thawbox.templates.recipe import (
    AptStep,
    CmdStep,
    CopyStep,
    EnvStep,
    ReadyCheck,
    ReadyKind,
    Recipe,
    RegistryCredentials,
    RunStep,
    UserStep,
    WorkdirStep,
)

SETTINGS = load()
FROM = {"type": "from", "image": "debian:12"}
HASH = "ab" * 32


def parse(body: object) -> Recipe:
    return parse_recipe(body, settings=SETTINGS)


def refusal(body: object) -> str:
    with pytest.raises(InvalidTemplate) as caught:
        parse(body)
    assert caught.value.status == 400
    assert caught.value.title == "Invalid template definition"
    return caught.value.message


def with_step(step: object, **more: Any) -> dict[str, Any]:
    return {"alias": "t", "steps": [FROM, step], **more}


def one(step: object) -> Any:
    return parse(with_step(step)).steps[0]


# The published documentation's own example, then one whole body per dialect.


def test_published_example() -> None:
    recipe = parse(
        {
            "alias": "my-python-template",
            "cpu": 2,
            "memory": 2048,
            "diskGB": 10,
            "steps": [
                {"type": "from", "image": "ubuntu:22.04"},
                {"type": "apt", "packages": ["python3", "python3-pip", "curl"]},
                {"type": "run", "command": "pip3 install numpy pandas"},
            ],
        }
    )
    assert recipe == Recipe(
        name="my-python-template",
        base_image="ubuntu:22.04",
        steps=(
            AptStep(packages=("python3", "python3-pip", "curl")),
            RunStep(command="pip3 install numpy pandas"),
        ),
        first_number=2,
    )


def test_name_dialect_of_the_documentation() -> None:
    recipe = parse(
        {
            "name": "doc",
            "from_image": "python:3.11-slim",
            "cpu": 4,
            "memory": 4096,
            "diskGB": 20,
            "steps": [
                {"type": "RUN", "args": ["pip install", "flask"]},
                {"type": "ENV", "args": ["A=1"]},
                {"type": "WORKDIR", "args": ["/app"]},
                {"type": "USER", "args": ["app"]},
                {"type": "CMD", "args": ["python", "my app.py"]},
            ],
            "update": True,
        }
    )
    assert recipe.steps == (
        RunStep(command="pip install flask"),
        EnvStep(variables=(("A", "1"),)),
        WorkdirStep(path="/app"),
        UserStep(user="app"),
        CmdStep(command="python 'my app.py'"),
    )
    assert recipe.start_cmd == "python 'my app.py'"
    assert (recipe.cpu, recipe.memory_mb, recipe.disk_gb, recipe.update) == (4, 4096, 20, True)


def test_live_python_client() -> None:
    recipe = parse(
        {
            "name": "py",
            "from_image": "ubuntu/node:20-22.04_edge",
            "cpu": 2,
            "memory": 2048,
            "diskGB": 10,
            "steps": [
                {"type": "COPY", "args": ["a,b/", "/app/"], "filesHash": HASH},
                {"type": "ENV", "args": ["K", "a=b"]},
                {"type": "RUN", "args": ["true"], "skipCache": True},
            ],
            "skipCache": False,
            "startCmd": None,
            "readyCmd": None,
            "registry_credentials": {"type": "basic", "username": "u", "password": "p"},
            "update": False,
            "agent_version": "1",
        }
    )
    assert recipe.steps == (
        CopyStep(sources=("a", "b/"), dest="/app/", files_hash=HASH),
        EnvStep(variables=(("K", "a=b"),)),
        RunStep(command="true", skip_cache=True),
    )
    assert recipe.start_cmd is None
    assert recipe.ready is None
    assert recipe.credentials == RegistryCredentials(kind="basic", username="u", password="p")


def test_live_typescript_client_mixes_dialects() -> None:
    recipe = parse(
        {
            "name": "ts",
            "from_image": "node:20",
            "cpu": 1,
            "memory": 512,
            "diskGB": 5,
            "steps": [
                {
                    "type": "COPY",
                    "args": ["x", "/x"],
                    "filesHash": HASH,
                    "owner": "app:app",
                    "permissions": "0755",
                },
                {"type": "env", "key": "A", "value": ""},
                {"type": "workdir", "path": "/w"},
                {"type": "RUN", "args": ["npm ci"]},
            ],
            "startCmd": "node .",
            "readyCmd": {"type": "process", "name": "node"},
        }
    )
    assert recipe.steps[0] == CopyStep(
        sources=("x",), dest="/x", files_hash=HASH, owner="app:app", permissions=0o755
    )
    assert recipe.steps[1] == EnvStep(variables=(("A", ""),))
    assert recipe.ready == ReadyCheck(kind=ReadyKind.PROCESS, target="node")


def test_old_python_client() -> None:
    recipe = parse(
        {
            "alias": "old",
            "steps": [
                {"type": "FROM", "args": ["alpine:3.18"]},
                {"type": "COPY", "args": ["s", "/d", "{'owner': None}"], "filesHash": HASH},
            ],
        }
    )
    assert recipe.base_image == "alpine:3.18"
    assert recipe.steps == (CopyStep(sources=("s",), dest="/d", files_hash=HASH),)


def test_command_line_client() -> None:
    recipe = parse(
        {"alias": "cli", "base_image": "node:18", "cpu_milli": 1500, "memory_mb": 512, "start_cmd": "node x"}
    )
    assert (recipe.base_image, recipe.cpu, recipe.memory_mb, recipe.disk_gb) == ("node:18", 2, 512, 10)
    assert recipe.start_cmd == "node x"
    assert recipe.steps == ()


# Normalisation.


@pytest.mark.parametrize(
    ("step", "variables"),
    [
        ({"type": "env", "key": "A", "value": "b"}, (("A", "b"),)),
        ({"type": "Env", "args": ["A", "b"]}, (("A", "b"),)),
        ({"type": "env", "args": ["A=b=c"]}, (("A", "b=c"),)),
        ({"type": "env", "args": ["A", "x=y"]}, (("A", "x=y"),)),
        ({"type": "env", "args": ["A=1", "B=2"]}, (("A", "1"), ("B", "2"))),
        ({"type": "env", "args": ["A=1", "B=2", "C="]}, (("A", "1"), ("B", "2"), ("C", ""))),
        ({"type": "env", "vars": {"A": "1", "B.c-d": "2"}}, (("A", "1"), ("B.c-d", "2"))),
        ({"type": "env", "args": ["A=1", "B=2", "A=3"]}, (("A", "3"), ("B", "2"))),
    ],
)
def test_env_forms(step: dict[str, Any], variables: tuple[tuple[str, str], ...]) -> None:
    assert one(step) == EnvStep(variables=variables)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"type": "run", "cmd": "x"}, RunStep(command="x")),
        ({"type": "run", "command": None, "args": ["x", "y"]}, RunStep(command="x y")),
        ({"type": "RUN", "command": "x", "unknown": [1]}, RunStep(command="x")),
        ({"type": "apt", "args": ["curl"]}, AptStep(packages=("curl",))),
        ({"type": "user", "user": "1000:1000"}, UserStep(user="1000:1000")),
        ({"type": "cmd", "args": ["python a.py && b"]}, CmdStep(command="python a.py && b")),
        ({"type": "copy", "src": "a,b", "dest": "c"}, CopyStep(sources=("a,b",), dest="c")),
        (
            {"type": "copy", "src": ["/tmp/x", "../y"], "dest": "."},
            CopyStep(sources=("/tmp/x", "../y"), dest="."),
        ),
        (
            {"type": "copy", "src": ["a"], "dest": "b", "files_hash": HASH.upper()},
            CopyStep(sources=("a",), dest="b", files_hash=HASH),
        ),
    ],
)
def test_step_forms(step: dict[str, Any], expected: object) -> None:
    assert one(step) == expected


@pytest.mark.parametrize(
    ("more", "cpu"),
    [({"cpu_milli": 0}, 1), ({"cpu_milli": 1}, 1), ({"cpu_milli": 1001}, 2), ({"cpu": 64}, 64)],
)
def test_cores(more: dict[str, Any], cpu: int) -> None:
    assert parse({"alias": "t", "base_image": "x", **more}).cpu == cpu


def test_from_step_equal_to_from_image_may_stand_anywhere() -> None:
    body = {"name": "t", "from_image": "debian:12", "steps": [{"type": "run", "command": "x"}, FROM]}
    assert parse(body).base_image == "debian:12"


def test_named_start_command_beats_cmd_and_blank_counts_as_absent() -> None:
    step = {"type": "cmd", "command": "from-step"}
    assert parse(with_step(step, startCmd="named")).start_cmd == "named"
    assert parse(with_step(step, startCmd=" ")).start_cmd == "from-step"


def test_skip_cache_of_the_from_step_holds_for_all() -> None:
    assert parse({"alias": "t", "steps": [{**FROM, "skipCache": True}]}).skip_cache is True


def test_operator_maxima_also_bound_the_defaults() -> None:
    small = load(max_memory_mb=1024, max_cpu=1, max_disk_gb=5)
    with pytest.raises(InvalidTemplate, match="cpu is 2"):
        parse_recipe({"alias": "t", "base_image": "x", "cpu": 2}, settings=small)
    recipe = parse_recipe({"alias": "t", "base_image": "x"}, settings=small)
    assert (recipe.cpu, recipe.memory_mb, recipe.disk_gb) == (1, 1024, 5)


@pytest.mark.parametrize(
    ("ready", "check"),
    [
        ("curl x", ReadyCheck(kind=ReadyKind.COMMAND, target="curl x")),
        ({"type": "PORT", "port": 80}, ReadyCheck(kind=ReadyKind.PORT, target="80")),
        (
            {"type": "url", "url": "http://localhost:8000/x", "timeout": 5, "interval": 7},
            ReadyCheck(kind=ReadyKind.URL, target="http://localhost:8000/x", timeout_ms=5, interval_ms=7),
        ),
        ({"type": "file", "path": "/x", "timeout": None}, ReadyCheck(kind=ReadyKind.FILE, target="/x")),
        ({"type": "process", "processName": "a"}, ReadyCheck(kind=ReadyKind.PROCESS, target="a")),
        ({"type": "process", "process_name": "b"}, ReadyCheck(kind=ReadyKind.PROCESS, target="b")),
        ({"type": "command", "command": "c"}, ReadyCheck(kind=ReadyKind.COMMAND, target="c")),
    ],
)
def test_ready_checks(ready: object, check: ReadyCheck) -> None:
    assert parse(with_step({"type": "run", "command": "x"}, readyCmd=ready)).ready == check


@pytest.mark.parametrize(
    "image",
    [
        "debian",
        "python:3.11-slim",
        "localhost:5000/a/b__c:1",
        "registry.example/Org".lower(),
        "reg.example.com:443/a.b/c-d@sha256:" + "0" * 64,
        "1.dkr.ecr.eu-west-1.amazonaws.com/x:y_Z.1",
    ],
)
def test_image_references(image: str) -> None:
    assert parse({"name": "t", "from_image": image}).base_image == image


@pytest.mark.parametrize(
    "package",
    ["g++", "libc6:amd64", "curl=7.88.1-10+deb12u5", "nodejs=20.*", "xz/bookworm-backports", "7zip", "a.b"],
)
def test_debian_packages(package: str) -> None:
    assert one({"type": "apt", "packages": [package]}) == AptStep(packages=(package,))


# Mistakes.


def test_published_texts_exactly() -> None:
    for steps in ([], None, [{"type": "run", "command": "x"}]):
        assert refusal({"alias": "t", "steps": steps}) == "Template must start with a FROM step"
    assert refusal({"alias": "t"}) == "Template must start with a FROM step"
    assert refusal({"name": "t", "steps": []}).startswith("from_image is required")


RUN = {"type": "run", "command": "x"}

_BAD_CPU: list[object] = [0, 65, -1, True, 2.0, "2", [], {}, 10**5000]

BODIES: list[tuple[object, str]] = [
    (None, "The request body must be a JSON object"),
    ([], "The request body must be a JSON object"),
    ({}, "alias is required"),
    ({"alias": None}, "alias is required"),
    ({"alias": 5}, "alias must be text, not 5"),
    ({"alias": "a" * 64}, "alias"),
    ({"alias": "-a"}, "is not a template name"),
    ({"alias": "a b"}, "is not a template name"),
    ({"alias": "a\n"}, "is not a template name"),
    ({"alias": ""}, "is not a template name"),
    ({"alias": "12"}, "all digits"),
    ({"alias": "build"}, "reserved"),
    ({"alias": "a", "name": "b"}, "name and alias differ"),
    ({"alias": "a", "steps": {}}, "steps must be a list"),
    ({"alias": "a", "steps": "run"}, "steps must be a list"),
    ({"alias": "a", "steps": [FROM, 5]}, "Step 2 must be an object"),
    ({"alias": "a", "steps": [FROM, None]}, "Step 2 must be an object"),
    ({"alias": "a", "steps": [FROM] * 10_000}, "steps has 10000 entries; at most 100"),
    ({"alias": "a", "steps": [FROM, FROM]}, "Step 2 (from)"),
    ({"alias": "a", "steps": [RUN, FROM]}, "Template must start with a FROM step; move step 2"),
    ({"name": "a", "from_image": "x", "steps": [FROM]}, "Step 1 (from): image"),
    ({"name": "a", "from_image": "x", "base_image": "y"}, "from_image and base_image differ"),
    ({"alias": "a", "steps": [{"type": "from"}]}, "Step 1 (from): image is missing"),
    ({"alias": "a", "steps": [{"type": "from", "args": ["a", "b"]}]}, "Step 1 (from): image is missing"),
    *(
        ({"name": "a", "from_image": image}, "from_image")
        for image in (
            5,
            "",
            "-x",
            "a b",
            "a\n",
            "A",
            "xz:",
            "a//b",
            "http://x/y",
            "a" * 513,
            "a\0",
            "$(id)",
            "a/../b",
        )
    ),
]

TOP: list[tuple[dict[str, Any], str]] = [
    *(({"cpu": bad}, "cpu ") for bad in _BAD_CPU),
    *(({"memory": bad}, "memory ") for bad in (127, 262_145, False, 2048.0, "2048", -5)),
    *(({"diskGB": bad}, "diskGB ") for bad in (0, 1025, True, 1.5, -1)),
    *(({"cpu_milli": bad}, "cpu_milli ") for bad in (-1, True, 0.5, 64_001)),
    ({"memory_mb": 127}, "memory_mb is 127"),
    ({"cpu": 1, "cpu_milli": 2000}, "cpu and cpu_milli differ"),
    ({"memory": 512, "memory_mb": 513}, "memory and memory_mb differ"),
    ({"skipCache": 1}, "skipCache must be true or false"),
    ({"update": "true"}, "update must be true or false"),
    ({"startCmd": ["a"]}, "startCmd must be text"),
    ({"startCmd": "a\0"}, "startCmd contains a NUL"),
    ({"startCmd": "a", "start_cmd": "b"}, "startCmd and start_cmd differ"),
    ({"readyCmd": 5}, "readyCmd must be an object"),
    ({"readyCmd": ""}, "readyCmd is empty"),
    ({"readyCmd": {}}, "readyCmd.type is missing"),
    ({"readyCmd": {"type": "smoke"}}, 'readyCmd.type "smoke" is unknown'),
    ({"readyCmd": {"type": []}}, "readyCmd.type a list is unknown"),
    ({"readyCmd": {"type": "port"}}, "readyCmd.port is missing"),
    *(
        ({"readyCmd": {"type": "port", "port": bad}}, "readyCmd.port")
        for bad in (0, 65536, True, "80", 80.0, -1)
    ),
    *(
        ({"readyCmd": {"type": "port", "port": 1, "timeout": bad}}, "readyCmd.timeout")
        for bad in (0, -1, True, 1.5, "1", 3_600_001)
    ),
    ({"readyCmd": {"type": "port", "port": 1, "interval": 0}}, "readyCmd.interval"),
    *(
        ({"readyCmd": {"type": "url", "url": bad}}, "readyCmd.url")
        for bad in (
            "ftp://x",
            "localhost",
            "http://",
            "http://[",
            "http://x:99999/",
            "http://x y",
            "http://x\n",
            5,
        )
    ),
    ({"readyCmd": {"type": "file", "path": ""}}, "readyCmd.path is empty"),
    ({"readyCmd": {"type": "process"}}, "readyCmd.processName is missing"),
    ({"registry_credentials": "x"}, "registry_credentials must be an object"),
    ({"registry_credentials": {}}, "registry_credentials.type is missing"),
    ({"registry_credentials": {"type": "ldap"}}, 'registry_credentials.type "ldap" is unknown'),
    ({"registry_credentials": {"type": "basic", "username": "u"}}, "needs username and password"),
    ({"registry_credentials": {"type": "github"}}, "needs a token or a password"),
]

STEPS: list[tuple[dict[str, Any], str]] = [
    ({}, "Step 2: type is missing"),
    ({"type": "bogus"}, 'Step 2: type "bogus" is unknown; use one of from, apt, run'),
    ({"type": 5}, "Step 2: type 5 is unknown"),
    ({"type": "add"}, "is unknown"),
    ({"type": "run"}, "Step 2 (run): command is missing"),
    ({"type": "RUN", "args": []}, "Step 2 (run): command is missing"),
    ({"type": "run", "command": None}, "Step 2 (run): command is missing"),
    ({"type": "run", "command": 5}, "Step 2 (run): command must be text, not 5"),
    ({"type": "run", "command": ["x"]}, "must be text, not a list"),
    ({"type": "run", "command": "  "}, "Step 2 (run): command is empty"),
    ({"type": "run", "command": "a\0b"}, "Step 2 (run): command contains a NUL"),
    ({"type": "run", "command": "\ud800"}, "Step 2 (run): command is not valid UTF-8"),
    ({"type": "run", "command": "x" * 5_000_000}, "Step 2 (run): command is 5000000 bytes long"),
    ({"type": "run", "command": "é" * 70_000}, "command is 140000 bytes long"),
    ({"type": "run", "args": "x"}, "Step 2 (run): args must be a list"),
    ({"type": "run", "args": ["x", 1]}, "Step 2 (run): args[1] must be text"),
    ({"type": "run", "command": "x", "skipCache": "yes"}, "Step 2 (run): skipCache must be true or false"),
    ({"type": "apt"}, "Step 2 (apt): packages is missing"),
    ({"type": "apt", "packages": []}, "Step 2 (apt): packages is missing"),
    ({"type": "apt", "packages": "curl"}, "Step 2 (apt): packages must be a list"),
    ({"type": "apt", "packages": ["curl"] * 1001}, "packages has 1001 entries"),
    *(
        ({"type": "apt", "packages": ["curl", bad]}, "Step 2 (apt): packages[1]")
        for bad in (
            "-y",
            "--force-yes",
            "a;b",
            "a b",
            "",
            "vim-",
            "Curl",
            "$(id)",
            "./x.deb",
            "a`id`",
            "xz=",
            "xz=-1",
            "xz/",
            "xz/-o",
            "xz:",
            "a\n",
            "a\0",
            "a" * 300,
            5,
            None,
            "foo=1;id",
            "task^",
            "é",
        )
    ),
    ({"type": "env"}, "Step 2 (env): key is missing"),
    ({"type": "env", "key": "A"}, "Step 2 (env): value is missing"),
    ({"type": "env", "key": "A", "value": 5}, "Step 2 (env): value must be text"),
    ({"type": "env", "args": ["A"]}, 'has no "="'),
    ({"type": "env", "args": ["A=1", "B", "C=2"]}, 'Step 2 (env): args[1] "B" has no "="'),
    ({"type": "env", "vars": {}}, "vars must be an object"),
    ({"type": "env", "vars": {"A": None}}, "value must be text"),
    *(
        ({"type": "env", "key": bad, "value": "x"}, "Step 2 (env): key")
        for bad in ("", "A=B", "A\0", "1A", "A B", "A\n", "é", "$A", 5, "A" * 256)
    ),
    ({"type": "env", "key": "A", "value": "x\0"}, "value contains a NUL"),
    ({"type": "env", "key": "A" * 200, "value": "x" * 131_000}, "is too long"),
    ({"type": "workdir"}, "Step 2 (workdir): path is missing"),
    *(
        ({"type": "workdir", "path": bad}, "Step 2 (workdir): path")
        for bad in ("", " ", "/a\0b", "/a\nb", "/" + "a" * 256, "a/" * 3000, 5, True)
    ),
    ({"type": "user"}, "Step 2 (user): user is missing"),
    *(
        ({"type": "user", "user": bad}, "Step 2 (user): user")
        for bad in (
            "",
            "a b",
            "-a",
            "a:",
            ":a",
            "a:b:c",
            "a\0",
            "root;id",
            1000,
            "4294967295",
            "1" * 11,
            "a" * 33,
        )
    ),
    ({"type": "cmd", "args": []}, "Step 2 (cmd): command is missing"),
    ({"type": "copy"}, "Step 2 (copy): src is missing"),
    ({"type": "copy", "src": [], "dest": "/"}, "Step 2 (copy): src is missing"),
    ({"type": "copy", "src": ["a"]}, "Step 2 (copy): dest is missing"),
    ({"type": "copy", "args": ["a"]}, "Step 2 (copy): dest is missing"),
    ({"type": "copy", "args": ["a,,b", "/"]}, "Step 2 (copy): src[1] is empty"),
    ({"type": "copy", "src": [5], "dest": "/"}, "Step 2 (copy): src[0] must be text"),
    ({"type": "copy", "src": {}, "dest": "/"}, "Step 2 (copy): src must be a list"),
    ({"type": "copy", "src": "a", "dest": "/\0"}, "Step 2 (copy): dest contains a NUL"),
    ({"type": "copy", "src": "a", "dest": 5}, "Step 2 (copy): dest must be text"),
    ({"type": "copy", "src": "a", "dest": "/", "filesHash": "xyz"}, "filesHash"),
    ({"type": "copy", "src": "a", "dest": "/", "owner": "a b"}, "owner"),
    *(
        ({"type": "copy", "src": "a", "dest": "/", "permissions": bad}, "Step 2 (copy): permissions")
        for bad in ("999", "u+x", "", "-1", "77", "17777", 755, True, "0x1ff", "7_7_7")
    ),
]


@pytest.mark.parametrize(("body", "words"), BODIES)
def test_bad_bodies(body: object, words: str) -> None:
    assert words in refusal(body)


@pytest.mark.parametrize(("more", "words"), TOP)
def test_bad_fields(more: dict[str, Any], words: str) -> None:
    assert words in refusal({"alias": "t", "steps": [FROM], **more})


@pytest.mark.parametrize(("step", "words"), STEPS)
def test_bad_steps(step: dict[str, Any], words: str) -> None:
    assert words in refusal(with_step(step))


@pytest.mark.parametrize("key", ["username", "password", "token"])
@pytest.mark.parametrize("secret", [["hunter2"], "hunter2\0", "hunter2\ud800", "hunter2" * 20_000])
def test_secrets_never_show(key: str, secret: object) -> None:
    message = refusal(
        {"alias": "t", "base_image": "x", "registry_credentials": {"type": "gcr", "token": "t", key: secret}}
    )
    assert "hunter2" not in message
    assert key in message


@pytest.mark.parametrize(
    "body", [*(body for body, _ in BODIES), *(with_step(step) for step, _ in STEPS)], ids=lambda _: ""
)
def test_messages_are_one_short_encodable_line(body: object) -> None:
    message = refusal(body)
    assert len(message.encode()) < 600
    assert "\n" not in message
    assert not message.endswith(".")


# Whatever comes in: a recipe, or a 400.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
WORDS = JSON | st.sampled_from(
    [
        "python:3.11",
        "a",
        "/app",
        "A=1",
        "curl",
        "root",
        "755",
        HASH,
        1,
        512,
        True,
        ["A", "b"],
        ["A=1"],
        {"A": "1"},
    ]
)
STEP = st.fixed_dictionaries(
    {"type": st.sampled_from(["from", "RUN", "apt", "copy", "ENV", "workdir", "user", "cmd"]) | JSON},
    optional=dict.fromkeys(
        (
            "image",
            "args",
            "command",
            "cmd",
            "packages",
            "src",
            "dest",
            "filesHash",
            "files_hash",
            "owner",
            "permissions",
            "key",
            "value",
            "vars",
            "path",
            "user",
            "skipCache",
        ),
        WORDS,
    ),
)
READY = st.fixed_dictionaries(
    {"type": st.sampled_from(list(ReadyKind)) | JSON},
    optional=dict.fromkeys(("port", "url", "path", "name", "command", "timeout", "interval"), WORDS),
)
BODY = st.fixed_dictionaries(
    {"alias": st.just("t") | WORDS},
    optional={
        "name": st.just("t") | WORDS,
        "from_image": WORDS,
        "base_image": WORDS,
        "steps": st.lists(STEP, max_size=4) | JSON,
        "cpu": WORDS,
        "cpu_milli": WORDS,
        "memory": WORDS,
        "diskGB": WORDS,
        "startCmd": WORDS,
        "readyCmd": READY | JSON,
        "registry_credentials": st.fixed_dictionaries({"type": WORDS}, optional={"token": WORDS}) | JSON,
        "update": WORDS,
    },
)


@given(JSON | BODY)
def test_any_json_gives_a_recipe_or_a_400(body: object) -> None:
    recipe, message = None, ""
    try:
        recipe = parse(body)
    except InvalidTemplate as error:
        message = error.message
    assert len(message.encode()) < 600
    assert "\n" not in message
    if recipe:
        json.dumps(recipe_to_json(recipe), ensure_ascii=False).encode()
        assert not any("\0" in text for text in _texts(recipe_to_json(recipe)))
        assert recipe.name
        assert recipe.base_image


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def test_deep_nesting_is_a_400() -> None:
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    assert "alias must be text" in refusal({"alias": deep, "name": None})
    assert "must be text" in refusal({"alias": deep, "name": deep})
