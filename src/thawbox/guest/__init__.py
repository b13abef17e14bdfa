"""The client of the agent in a sandbox. Use it as ``guest.run(...)``; ``reach`` and ``kernel`` are separate modules.

One connection per operation. Cancelling a task closes its connection, which ends the command inside. Everything that
a sandbox sends is bounded and checked, because it may be hostile.

If the agent refuses an operation, ``GuestError`` has the agent's code. If it does not answer, or its answer is not
valid, that is a ``GuestFault``. ``operations`` lists what agents of each protocol version understand.
"""

from .channel import Endpoint, GuestError
from .commands import (
    Completed,
    Event,
    Exit,
    Process,
    Stderr,
    Stdout,
    Value,
    command_status,
    run,
    spawn,
    start,
)
from .environment import change_env, read_environment
from .files import FileInfo, list_dir, mkdir, place, read_file, receive_file, remove, stat, write_file
from .jobs import Job, kill, list_jobs, read_job, start_job
from .lifecycle import init, ping, quiesce, renew, wait_ready
from .machine import ProcessInfo, System, describe, list_processes, probe, url_probe_argv, usage
from .terminal import Terminal, open_terminal
from .warm import start_warm
from .watch import Change, watch_folder

__all__ = [
    "Change",
    "Completed",
    "Endpoint",
    "Event",
    "Exit",
    "FileInfo",
    "GuestError",
    "Job",
    "Process",
    "ProcessInfo",
    "Stderr",
    "Stdout",
    "System",
    "Terminal",
    "Value",
    "change_env",
    "command_status",
    "describe",
    "init",
    "kill",
    "list_dir",
    "list_jobs",
    "list_processes",
    "mkdir",
    "open_terminal",
    "ping",
    "place",
    "probe",
    "quiesce",
    "read_environment",
    "read_file",
    "read_job",
    "receive_file",
    "remove",
    "renew",
    "run",
    "spawn",
    "start",
    "start_job",
    "start_warm",
    "stat",
    "url_probe_argv",
    "usage",
    "wait_ready",
    "watch_folder",
    "write_file",
]
