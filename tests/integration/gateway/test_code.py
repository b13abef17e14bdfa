from __future__ import annotations

import asyncio
import base64
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import thawbox.agent
from tests.support.gateway import Gate
from thawbox.gateway.run import code, execution, languages


@pytest.fixture(autouse=True)
def runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner where it is on this machine, instead of in the agent's image."""
    monkeypatch.setattr(languages, "RUNNER", str(Path(thawbox.agent.__file__).parent / "python" / "run.py"))


async def execute(gate: Gate, source: str, **body: Any) -> dict[str, Any]:
    answer = await gate.client.post("/execute", json={"code": source, **body})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


async def test_python_runs(gate: Gate) -> None:
    done = await execute(gate, "import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (done["stdout"], done["stderr"], done["exit_code"], done["success"]) == ("out\n", "err\n", 0, True)
    assert done["language"] == "python"
    assert done["timestamp"].endswith("Z")
    assert done["execution_time"] > 0
    assert [done[key] for key in ("result", "png", "svg", "html", "markdown", "json", "dataframe")] == [
        None
    ] * 7
    assert done["rich_outputs"] == []


async def test_rich_path_means_the_same(gate: Gate) -> None:
    answer = await gate.client.post("/execute/rich", json={"code": "1 + 1"})
    assert answer.json()["result"] == "2"


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("a = 10\na + 5", "15"),
        ("'x'", "'x'"),
        ("None", None),
        ("a = 1", None),
        ("def f(): pass", None),
        ("", None),
        ("# nothing", None),
        ("from __future__ import annotations\n(lambda x: x)(3)", "3"),
        ("print(1);", None),
        ("import os\nif os.fork() == 0: os._exit(0)\nos.wait()[1]", "0"),
        (
            "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as p: r = p.map(abs, [-1])\nr",
            "[1]",
        ),
    ],
)
async def test_value_of_the_last_line(gate: Gate, source: str, result: str | None) -> None:
    assert (await execute(gate, source))["result"] == result


async def test_code_sees_a_normal_main_module(gate: Gate) -> None:
    source = (
        "import sys, os, pickle\n"
        "class C: pass\n"
        "assert type(pickle.loads(pickle.dumps(C()))) is C\n"
        "print(__name__, sys.modules['__main__'].C is C, sys.argv, sys.path[0] == '', sys.stdin.read() == '')\n"
        "print(sorted(n for n in globals() if not n.startswith('__')))\n"
        "print('THAWBOX_RESULT_FD' in os.environ, os.getcwd())\n"
    )
    done = await execute(gate, source)
    assert done["stdout"].splitlines() == [
        "__main__ True ['main.py'] True True",
        "['C', 'os', 'pickle', 'sys']",
        f"False {gate.folder}",
    ]


async def test_what_the_code_starts_holds_nothing_of_ours(gate: Gate) -> None:
    source = (
        "import subprocess as s\n"
        "print(s.run(['ls', '/proc/self/fd'], stdout=s.PIPE, text=True, close_fds=False).stdout.split())"
    )
    assert (await execute(gate, source))[
        "stdout"
    ] == "['0', '1', '2', '3']\n"  # 3 is the folder that ls reads


async def test_traceback_is_the_codes_own(gate: Gate) -> None:
    done = await execute(gate, "def f():\n    return 1 / 0\n\nprint('before')\nf()")
    assert (done["success"], done["exit_code"], done["stdout"]) == (False, 1, "before\n")
    lines = [line for line in done["stderr"].splitlines() if "^" not in line and "~" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "main.py", line 5, in <module>',
        "    f()",
        '  File "main.py", line 2, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = (", "SyntaxError"),
        ("import nonexistent_module", "ModuleNotFoundError"),
        ("input()", "EOFError"),
        ("class C:\n    def __repr__(self): raise ValueError('of repr')\nC()", "of repr"),
    ],
)
async def test_errors_name_themselves(gate: Gate, source: str, said: str) -> None:
    done = await execute(gate, source)
    assert (done["exit_code"], done["success"]) == (1, False)
    assert said in done["stderr"]
    assert "run.py" not in done["stderr"]


@pytest.mark.parametrize(
    ("source", "code", "stderr"),
    [
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('said')", 1, "said\n"),
        ("import os; os._exit(3)", 3, ""),
    ],
)
async def test_exit_codes(gate: Gate, source: str, code: int, stderr: str) -> None:
    done = await execute(gate, source)
    assert (done["exit_code"], done["stderr"], done["success"]) == (code, stderr, code == 0)


async def test_atexit_and_threads_run_to_their_end(gate: Gate) -> None:
    source = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.1), print('thread'))).start()\n"
        "print('main')\n"
    )
    assert (await execute(gate, source))["stdout"] == "main\nthread\nlast\n"


async def test_time_over_is_a_result_with_what_was_printed(gate: Gate) -> None:
    done = await execute(gate, "print('begun')\nimport time\ntime.sleep(600)", timeout=3)
    assert (done["exit_code"], done["success"], done["stdout"]) == (124, False, "begun\n")
    assert "timed out after 3 s" in done["stderr"]


async def test_code_of_any_size(gate: Gate) -> None:
    padding = "#" * 3_000_000
    assert (await execute(gate, f"{padding}\nprint('end')"))["stdout"] == "end\n"
    for language in ("bash", "sh"):
        done = await execute(gate, f"{padding}\ncat\necho end", language=language)
        assert (done["stdout"], done["stderr"]) == ("end\n", ""), language


async def test_what_shows_itself(gate: Gate) -> None:
    source = (
        "class Table:\n"
        "    def __repr__(self): return 'plain'\n"
        "    def _repr_html_(self): return '<b>html</b>'\n"
        "    def _repr_svg_(self): return '<svg/>'\n"
        "    def _repr_markdown_(self): return '**md**'\n"
        "    def _repr_png_(self): return b'PNG'\n"
        "    def _repr_json_(self): return {'a': [1]}\n"
        "Table()"
    )
    done = await execute(gate, source)
    assert done["result"] == "plain"
    assert (done["html"], done["svg"], done["markdown"]) == ("<b>html</b>", "<svg/>", "**md**")
    assert (base64.b64decode(done["png"]), done["json"]) == (b"PNG", {"a": [1]})
    assert {(output["type"], output["format"]) for output in done["rich_outputs"]} == {
        ("text/html", "html"),
        ("image/svg+xml", "svg"),
        ("text/markdown", "markdown"),
        ("image/png", "png"),
        ("application/json", "json"),
    }


async def test_plain_data_is_json_too(gate: Gate) -> None:
    done = await execute(gate, "{'a': [1, None]}")
    assert (done["result"], done["json"]) == ("{'a': [1, None]}", {"a": [1, None]})
    assert (await execute(gate, "[float('nan')]"))["json"] is None
    assert (await execute(gate, "[object]"))["json"] is None


async def test_figures_of_matplotlib(gate: Gate, tmp_path: Path) -> None:
    """A package with matplotlib's names, so that the way through its import is tested without it."""
    _fake_matplotlib(tmp_path)
    source = "import matplotlib.pyplot as plt\nplt.figure('one')\nplt.show()\nplt.figure('two')\nprint(plt.backend())"
    done = await execute(gate, source, env={"PYTHONPATH": str(tmp_path)})
    assert (done["stdout"], done["stderr"]) == ("module://thawbox_figures\n", "")
    drawn = [base64.b64decode(output["data"]).decode() for output in done["rich_outputs"]]
    assert drawn == ["PNG of one", "PNG of two"]
    assert base64.b64decode(done["png"]).decode() == "PNG of two"


def _fake_matplotlib(folder: Path) -> None:
    package = folder / "matplotlib"
    (package / "backends").mkdir(parents=True)
    for path, text in {
        "__init__.py": "backend = None\ndef use(name):\n    global backend\n    backend = name\n",
        "_pylab_helpers.py": (
            "class Gcf:\n    figs = {}\n"
            "    @classmethod\n    def get_all_fig_managers(cls): return list(cls.figs.values())\n"
            "    @classmethod\n    def destroy_all(cls): cls.figs.clear()\n"
        ),
        "backend_bases.py": (
            "class FigureManagerBase:\n    def __init__(self, canvas, num): self.canvas = canvas\n"
        ),
        "backends/__init__.py": "",
        "backends/backend_agg.py": "class FigureCanvasAgg:\n    def __init__(self, figure): self.figure = figure\n",
        "figure.py": (
            "class Figure:\n    def __init__(self, name): self.name = name\n"
            "    def savefig(self, file, format, bbox_inches): file.write(b'PNG of ' + self.name.encode())\n"
        ),
        "pyplot.py": (
            "import importlib, matplotlib\nfrom ._pylab_helpers import Gcf\n"
            "def _module(): return importlib.import_module(matplotlib.backend[len('module://'):])\n"
            "def figure(name): Gcf.figs[name] = _module().new_figure_manager(1, name)\n"
            "def show(): _module().show()\n"
            "def backend(): return matplotlib.backend\n"
        ),
    }.items():
        (package / path).write_text(text)


async def test_results_beyond_the_limit_are_said_to_be_missing(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "RICH_LIMIT", 100)
    done = await execute(gate, "'x' * 1000")
    assert done["result"] is None
    assert "at most 100 bytes" in done["stderr"]
    assert done["success"] is True


async def test_a_program_that_writes_nonsense_as_its_results(gate: Gate) -> None:
    source = (
        "import os, sys\nr = sys.modules['thawbox_run'].Results.fd\n"
        'os.write(r, b\'\\xff{nonsense\\n[1]\\n{"kind": "result", "data": {"text/html": NaN}}\\n\''
        ' b\'{"kind": "result", "data": {"text/html": [5], "application/json": "\\\\ud800"}}\\n\')\n'
    )
    done = await execute(gate, source)
    assert (done["exit_code"], done["rich_outputs"], done["html"], done["json"]) == (0, [], None, None)
    assert "results were left out" in done["stderr"]


async def test_endless_output_is_cut(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "OUTPUT_LIMIT", 1000)
    done = await execute(gate, "print('x' * 100000)")
    assert (done["stdout"], done["truncated"], done["exit_code"]) == ("x" * 1000, True, 0)


@pytest.mark.parametrize(
    ("language", "source", "stdout"),
    [
        ("python3", "print(1)", "1\n"),
        ("bash", "x=(a b); echo ${x[1]}", "b\n"),
        ("sh", "echo $0", "/bin/sh\n"),
        ("shell", "echo hello", "hello\n"),
    ],
)
async def test_languages(gate: Gate, language: str, source: str, stdout: str) -> None:
    assert (await execute(gate, source, language=language))["stdout"] == stdout


def _program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("language", ["javascript", "js", "node", "nodejs"])
async def test_javascript(gate: Gate, tmp_path: Path, language: str) -> None:
    _program(tmp_path, "node", '#!/bin/sh\necho "$@"; cat\n')
    done = await execute(gate, "let a = 1", language=language, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (done["stdout"], done["language"]) == ("-\nlet a = 1", "javascript")
    done = await execute(gate, 'import fs from "fs"', language=language, env={"PATH": f"{tmp_path}:/bin"})
    assert done["stdout"].startswith("--input-type=module -\n")


async def test_go_has_a_folder_that_is_removed(gate: Gate, tmp_path: Path) -> None:
    builds = """printf '#!/bin/sh\\nls -d $THAWBOX_SCRATCH; cat %s\\n' "$4" > "$3"; chmod +x "$3" """
    _program(tmp_path, "go", f"#!/bin/sh\n{builds}\n")
    done = await execute(gate, "package main", language="go", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    folder, text = done["stdout"].splitlines()
    assert text == "package main"
    async with asyncio.timeout(10):  # the answer does not wait for it
        while Path(folder).exists():
            await asyncio.sleep(0.01)


@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go")
async def test_go(gate: Gate) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}

    async def go(source: str, timeout: float = 60) -> dict[str, Any]:
        return await execute(gate, f"package main\n{source}", language="go", env=env, timeout=timeout)

    done = await go('import "os"\nfunc main() { os.Stdout.WriteString("out"); println("err"); os.Exit(3) }')
    assert (done["stdout"], done["stderr"], done["exit_code"]) == ("out", "err\n", 3)
    done = await go("func main() { x := 1 }")
    assert (done["success"], done["exit_code"]) == (False, 1)
    assert "main.go:2:15: " in done["stderr"]
    done = await go("func main() { for {} }", timeout=2)
    assert (done["timed_out"], done["exit_code"]) == (True, 124)


@pytest.mark.parametrize("language", ["python", "javascript", "bash", "go"])
async def test_language_that_the_template_lacks(gate: Gate, tmp_path: Path, language: str) -> None:
    if language == "go":
        _program(tmp_path, "cat", "#!/bin/sh\n")
    done = await execute(gate, "1", language=language, env={"PATH": str(tmp_path)})
    assert (done["success"], done["exit_code"]) == (False, 127)
    assert f"This template has no {language}: " in done["stderr"]


async def test_environment_and_folder(gate: Gate) -> None:
    source = "import os; print(os.environ['X'], os.getcwd())"
    assert (await execute(gate, source, env={"X": "1"}, workdir="/usr"))["stdout"] == "1 /usr\n"
    assert (await execute(gate, source, env={"X": "1"}, working_dir="/etc"))["stdout"] == "1 /etc\n"


async def test_a_venv_in_path_is_respected(gate: Gate) -> None:
    folder = Path(sys.executable).parent
    done = await execute(gate, "import sys; print(sys.prefix)", env={"PATH": f"{folder}:/usr/bin"})
    assert done["stdout"] == f"{sys.prefix}\n"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": 1},
        {"code": "\x00"},
        {"code": "1", "language": "cobol"},
        {"code": "1", "language": 5},
        {"code": "1", "timeout": -1},
        {"code": "1", "timeout": 1e9},
        {"code": "1", "env": {"": "x"}},
        {"code": "1", "workdir": 5},
    ],
)
async def test_bad_fields_are_400(gate: Gate, body: dict[str, Any]) -> None:
    answer = await gate.client.post("/execute", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")


async def test_folder_that_does_not_exist(gate: Gate) -> None:
    answer = await gate.client.post("/execute", json={"code": "1", "workdir": "/no/such"})
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PATH")
