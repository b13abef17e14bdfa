"""The fork server: imports modules once, and its children run code. For the template's own Python, 3.8 or newer.

The agent starts ``warm.py CLAIMS IDLE COUNT MODULE...``. ``CLAIMS`` is a SOCK_SEQPACKET socket on which idle children
wait for claims. ``IDLE`` is a pipe into which a child writes a byte when it begins to wait. A claim is a JSON object
``{"env", "cwd"}`` with descriptors: standard input, output and error, a socket to the agent, and perhaps one for
results. The child sends its pid on that socket and waits for a byte, so that the agent knows the pid before the code
runs. If the socket closes without that byte, the claim is void.

A child has the agent as its parent, because the process between them ends at once. So the agent gets its exit status
like that of any program. The code finds everything as in a new interpreter, except that modules are loaded already and
that it cannot have another PYTHONHASHSEED, or a command line of its own in /proc.
"""

import array
import atexit
import gc
import importlib
import importlib.util
import json
import os
import select
import socket
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
MESSAGE_MAX = 1 << 18
FDS_MAX = 8
KILLED_PAUSE = 1.0
"""Seconds until a killed child is replaced: something may kill them again and again."""


def load(name):
    """Load the module ``name`` beside this one, under a name that no program uses."""
    spec = importlib.util.spec_from_file_location(
        "thawbox_" + name.replace("thawbox_", ""), f"{FOLDER}/{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def import_all(names):
    """Import ``names``; ends the program with a sentence if one of them cannot be."""
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException as error:
            sys.exit("warm: %s cannot be imported: %s: %s" % (name, type(error).__name__, error))


def serve(claims, idle, count):
    """Keep ``count`` children waiting, as long as the agent holds its end of ``claims``.

    Returns in a child, with its claim; never in the first process.
    """
    waiting = set()
    for _ in range(count):
        want = _fork_another(waiting)
        if want is not None:
            return _wait(claims, idle, want)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    poller = select.poll()
    poller.register(claims, 0)  # only for its end: claims are for the children
    while True:
        for fd in waiting:
            poller.register(fd, select.POLLIN)
        ready = dict(poller.poll())
        if claims.fileno() in ready:
            os._exit(0)
        for fd in ready:
            if not os.read(fd, 1):
                time.sleep(KILLED_PAUSE)
            poller.unregister(fd)
            waiting.discard(fd)
            os.close(fd)
            want = _fork_another(waiting)
            if want is not None:
                return _wait(claims, idle, want)


def _fork_another(waiting):
    """Fork a child. Returns its end of a pipe in the child; None in the first process.

    The first process has the other end in ``waiting``. A byte there means that the child has a claim now, an end
    without a byte that it was killed.
    """
    wanted, want = os.pipe()
    if _fork():
        for fd in (wanted, *waiting):
            os.close(fd)
        return want
    os.close(want)
    waiting.add(wanted)
    return None


def _fork():
    """Fork twice; returns whether this is the new process, which has the agent as its parent."""
    middle = os.fork()
    if middle == 0:
        if os.fork() != 0:
            os._exit(0)
        return True
    os.waitpid(middle, 0)
    return False


def _wait(claims, idle, want):
    """Wait for a claim; returns it (environment, folder) and its descriptors."""
    os.write(idle, b"i")
    while True:
        message, fds = _receive(claims)
        if not message:
            os._exit(0)
        agent = fds[3] if len(fds) > 3 else -1
        try:
            claim = json.loads(message)
            os.setsid()
            os.write(agent, b"%d\n" % os.getpid())
            agreed = os.read(agent, 1)
        except (OSError, ValueError):
            agreed = b""
        try:
            os.write(want, b"w")
        except OSError:  # the first process has ended
            pass
        if not agreed:
            os._exit(0)
        for fd in (claims.fileno(), idle, want, agent):
            os.close(fd)
        claims.detach()
        return claim, fds


def _receive(claims):
    fds = array.array("i")
    message, more, _, _ = claims.recvmsg(MESSAGE_MAX, socket.CMSG_SPACE(FDS_MAX * fds.itemsize))
    for level, kind, data in more:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return message, list(fds)


def become(claim, fds):
    """Take over the descriptors, environment and folder of the claim; returns the descriptor for results, or None."""
    for target in (0, 1, 2):
        os.dup2(fds[target], target, inheritable=True)
        os.close(fds[target])
    os.environ.clear()
    os.environ.update(claim["env"])
    os.umask(0o022)
    os.chdir(claim["cwd"])
    if hasattr(sys, "orig_argv"):
        sys.orig_argv = [sys.orig_argv[0], FOLDER + "/run.py"]
    return fds[4] if len(fds) > 4 else None


def leave(status):
    """End this process as the interpreter does, but without tearing down the imported modules.

    That would touch, and so copy, all memory that is shared with the parent: 80 ms with pandas.
    """
    code = _exit_code(status)
    try:
        sys.modules["threading"]._shutdown() if "threading" in sys.modules else None
    except BaseException:
        sys.excepthook(*sys.exc_info())
    atexit._run_exitfuncs()
    try:
        sys.modules["__main__"].__dict__.clear()
        gc.collect()  # objects from before the fork are frozen
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):  # the code has replaced or closed it
            pass
        except BaseException:
            code = 120 if stream is sys.stdout else code
    os._exit(code & 0xFF)


def _exit_code(status):
    """The exit code that the interpreter would use after ``sys.exit(status)``."""
    if status is None:
        return 0
    if isinstance(status, int):
        return status
    try:
        sys.stdout.flush()
        sys.stderr.write("%s\n" % (status,))
    except BaseException:
        pass
    return 1


def main():
    """Does not return."""
    claims = socket.socket(fileno=int(sys.argv[1]))
    idle, count = int(sys.argv[2]), int(sys.argv[3])
    for fd in (claims.fileno(), idle):
        os.set_inheritable(fd, False)
    runner = load("run")
    fresh = load("thawbox_fresh")
    runner.prepare()
    import_all(["thawbox_errors", "thawbox_rich", *sys.argv[4:]])
    gc.collect()
    gc.freeze()  # else a collection in a child would copy all memory
    claim, fds = serve(claims, idle, count)
    result_fd = become(claim, fds)
    fresh.refresh()
    try:
        status = runner.execute(runner.read_source(), result_fd)
    except SystemExit as leaving:
        status = leaving.code
    leave(status)


if __name__ == "__main__":
    main()
