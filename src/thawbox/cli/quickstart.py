"""``thaw quickstart``: the main job once, on embedded defaults, and how long each part took."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import httpx
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from thawbox.machine.doctor import port_is_taken, server_runs
from thawbox.node.installed import installed_runsc
from thawbox.settings import Settings, load
from thawbox.store.enums import TemplateStatus

from .catalog import build_entry
from .client import connect, connect_sandbox
from .failure import FAILED, Failure
from .figures import build_figures, sandbox_figures
from .remote import execute_python, run_plain
from .run import create
from .sandboxes import delete_sandbox
from .serve import free_port
from .terminal import console, duration

_COMMAND = (
    "python3",
    "-c",
    'import platform as p; print(f"Thawed and ready: Python {p.python_version()} on {p.release()}")',
)
_CODE = {
    "python": "import decimal, json\njson.dumps({'third': str(decimal.Decimal(1) / 3)})",
    "code-interpreter": "import pandas\npandas.DataFrame({'made': [2, 3, 5], 'sold': [1, 3, 4]}).describe()",
}
"""Per ready-made template, code that its warm interpreters have the modules of."""
_START_PATIENCE_S = 60
_STOP_PATIENCE_S = 30


@dataclass
class Running:
    """A server: one that was started here, or one that was there (``process`` is None)."""

    settings: Settings
    process: subprocess.Popen[bytes] | None
    log: Path


@click.command(short_help="Build a template, thaw a sandbox, say how long each took.")
@click.option("--keep", is_flag=True, help="Leave the server and the sandbox running.")
@click.option(
    "--template",
    "name",
    type=click.Choice(tuple(_CODE)),
    default="python",
    show_default=True,
    help="The ready-made template to build; code-interpreter has pandas and takes longer.",
)
def quickstart(keep: bool, name: str) -> None:
    """Build a template, freeze it, thaw a sandbox, run a command and some code; say how long each took.

    Needs root, and 'thaw setup' before. Uses the server that runs on the state folder, or starts one for as long as
    it takes.

    \b
    Examples:
      sudo thaw quickstart
      sudo thaw quickstart --template code-interpreter --keep
    """
    settings = load()
    installed_runsc(settings)  # says what to do if there is none, before a server fails for it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped in order
    out = console()
    with _server(out, settings, keep) as running:
        os.environ["THAWBOX_URL"] = f"http://127.0.0.1:{running.settings.port}"
        os.environ.pop("THAWBOX_API_KEY", None)  # the server's local key is used
        _main_job(out, running, name, keep)


def _main_job(out: Console, running: Running, name: str, keep: bool) -> None:
    rows: list[tuple[str, float | None, str]] = []
    with connect() as server:
        built = build_entry(running.settings, name, out)
        if built["status"] != TemplateStatus.ACTIVE:
            raise click.exceptions.Exit(FAILED)  # the build has printed why
        rows += build_figures(running.settings, int(built["template_id"]), built["seconds"])

        out.rule("sandbox", align="left")
        began = time.perf_counter()
        sandbox = create(server, name, {}, None if keep else 600)
        created = time.perf_counter() - began
        try:
            rows += sandbox_figures(running.settings, str(sandbox["id"]), created)
            with connect_sandbox(sandbox) as gateway:
                for which in ("first", "second"):
                    rows.append((f"{which} command", _command(out, gateway, quiet=which == "second"), ""))
                for which in ("first", "second"):
                    took = _code(out, gateway, _CODE[name], quiet=which == "second")
                    rows.append((f"{which} code", took, "in a warm interpreter"))
        finally:
            if not keep:
                delete_sandbox(server, str(sandbox["id"]))
    _show(out, rows)
    _next_steps(out, running, name, str(sandbox["id"]), keep)


def _command(out: Console, gateway: httpx.Client, *, quiet: bool) -> float:
    began = time.perf_counter()
    finished = run_plain(gateway, _COMMAND, timeout_s=60)
    took = time.perf_counter() - began
    if finished.exit_code != 0:
        printed = finished.stderr.decode("utf-8", "replace")
        raise Failure(f"{shlex.join(_COMMAND)} ended with status {finished.exit_code}: {printed}")
    if not quiet:
        out.print(Text(f"$ {shlex.join(_COMMAND)}", style="bold"))
        out.print(Text(finished.stdout.decode("utf-8", "replace")))
    return took


def _code(out: Console, gateway: httpx.Client, code: str, *, quiet: bool) -> float:
    began = time.perf_counter()
    done = execute_python(gateway, code, timeout_s=60)
    took = time.perf_counter() - began
    if not done["success"]:
        raise Failure(f"The code ended with status {done['exit_code']}: {done['stderr']}")
    if not quiet:
        for line in code.splitlines():
            out.print(Text(f">>> {line}", style="bold"))
        out.print(Text(f"{done['result']}\n"))
    return took


def _show(out: Console, rows: list[tuple[str, float | None, str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("WHAT")
    table.add_column("TIME", justify="right")
    table.add_column("")
    for what, seconds, remark in rows:
        table.add_row(what, "" if seconds is None else duration(seconds), Text(remark, style="dim"))
    out.print(table)


def _next_steps(out: Console, running: Running, name: str, sandbox: str, keep: bool) -> None:
    thaw = _thaw()
    if not keep or running.process is None:
        out.print("It works. Next, in two terminals, as root:", style="bold green")
        out.print(f"  {thaw} serve", markup=False)
        out.print(f"  {thaw} run {name} -- python3 -c 'print(6 * 7)'", markup=False)
        return
    port = running.settings.port
    url = "" if port == 7070 else f"THAWBOX_URL=http://127.0.0.1:{port} "
    out.print("It works, and goes on running:", style="bold green")
    out.print(f"  {url}{thaw} ps    # shows sandbox {sandbox}", markup=False)
    out.print(f"  kill {running.process.pid}    # stops the server; its log is {running.log}", markup=False)


def _thaw() -> str:
    """How to call this installation's ``thaw`` from here."""
    if (on_path := shutil.which("thaw")) and Path(on_path).parent == Path(sys.executable).parent:
        return "thaw"
    program = Path(sys.executable).with_name("thaw")
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


@contextmanager
def _server(out: Console, settings: Settings, keep: bool) -> Iterator[Running]:
    """The server on the state folder, or one that is started here and ends with the block unless kept."""
    log = settings.state / "quickstart.log"
    if server_runs(settings.state):
        out.print(f"A server runs on {settings.state} already; using it.")
        yield Running(settings, None, log)
        return
    host = "127.0.0.1"
    ports = {}
    for name in ("port", "gateway_port"):
        wanted = getattr(settings, name)
        ports[name] = free_port(host) if not wanted or port_is_taken(host, wanted) else wanted
    settings = settings.model_copy(update={"host": host, **ports})
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-m", "thawbox.cli.main", "serve", "--host", host, "--state", str(settings.state)]
    argv += ["--port", str(settings.port), "--gateway-port", str(settings.gateway_port)]
    # No quota: people try this more often than ten times an hour.
    environment = {**os.environ, "THAWBOX_BUILDS_PER_HOUR": "0", "THAWBOX_BUILDS_PER_DAY": "0"}
    with log.open("wb") as written:
        # A session of its own: Ctrl-C reaches this program only, which then stops the server in order.
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
            env=environment,
            start_new_session=True,
        )
    ended_well = False
    try:
        _wait_until_up(process, settings.port, log)
        out.print(f"Server started on port {settings.port}; its log is {log}.")
        yield Running(settings, process, log)
        ended_well = True
    finally:
        if not (keep and ended_well):
            _stop(process)


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_PATIENCE_S
    with httpx.Client(trust_env=False, timeout=2) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                if client.get(f"http://127.0.0.1:{port}/health").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
    lines = log.read_text(errors="replace").splitlines()[-10:]
    raise Failure("The server does not start. The last lines of " + f"{log}:\n" + "\n".join(lines))


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Failure(f"The server did not stop within {_STOP_PATIENCE_S} s and was killed.") from None
