"""Runs code as ``python3 main.py`` would, and tells its rich results. For the template's own Python, 3.8 or newer.

The code comes on standard input. Results leave on the descriptor that ``THAWBOX_RESULT_FD`` names, as lines of JSON::

    {"kind": "result" or "display", "data": {"<MIME type>": <text, base64 of an image, or JSON>}}

``result`` is the value of the last line if that is an expression; ``display`` is what was shown, or left open.

The code must not notice us. So nothing is imported before it is needed, and nothing of ours is in its namespace. A
process that has more than one program to run in its life calls ``prepare`` early and ``execute`` in a fork.
"""

import os
import sys

RESULT_FD = "THAWBOX_RESULT_FD"
FILE = "main.py"
"""What the code is called in tracebacks."""
LINE_MAX = 8 << 20
"""Bytes of one line of results; what is larger is left out."""
_FOLDER = os.path.dirname(os.path.abspath(__file__))


def read_source():
    """All of standard input, as bytes. After that it is empty."""
    pieces = []
    while True:
        piece = os.read(0, 1 << 16)
        if not piece:
            break
        pieces.append(piece)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return b"".join(pieces)


def take_result_fd():
    """The descriptor for results, or None. What the code starts gets neither it nor its name."""
    text = os.environ.pop(RESULT_FD, "")
    if not text.isdigit():
        return None
    os.set_inheritable(int(text), False)
    return int(text)


def prepare():
    """Be there when a plotting library is imported. May be called more than once."""
    sys.modules.setdefault("thawbox_run", sys.modules[__name__])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def execute(source, result_fd):
    """Run ``source`` (bytes) as the main module; returns its exit status, or raises its own SystemExit.

    Its traceback is printed. Descriptors, working folder, environment and user are those of this process.
    """
    _Results.fd = result_fd
    _Results.pid = os.getpid()
    prepare()
    sys.stdout.reconfigure(line_buffering=True)  # what was printed is not lost if we are killed
    sys.argv = [FILE]
    if sys.path and sys.path[0] == _FOLDER:
        sys.path[0] = ""  # what the code imports is looked for where it runs
    main = type(sys)("__main__")
    main.__builtins__ = sys.modules["builtins"]
    main.__loader__ = _Source(source)
    sys.modules["__main__"] = main
    status = 0
    try:
        value = _run(source, main.__dict__)
        if value is not None:
            import thawbox_rich

            thawbox_rich.send_value(value)
    except SystemExit:
        _show_figures()
        raise
    except BaseException as error:
        _print(error)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    _show_figures()
    return status


def send(kind, data):
    """Tell ``data``, a table of MIME types; what is no JSON, or too large, is left out.

    Only the process that was started has results, not what it forks.
    """
    if _Results.fd is None or os.getpid() != _Results.pid or not data:
        return
    try:
        import json
    except ImportError:  # Debian's python3-minimal has none
        return
    try:
        line = json.dumps({"kind": kind, "data": data}).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        return
    rest = memoryview(line if len(line) <= LINE_MAX else b"")
    try:
        while rest:
            rest = rest[os.write(_Results.fd, rest) :]
    except OSError:
        _Results.fd = None  # nobody listens


class _Results:
    fd = None
    pid = 0


class _Source:
    """The loader of the main module: gives tracebacks and ``inspect`` its lines."""

    def __init__(self, source):
        self._source = source

    def get_source(self, _name):
        return self._source.decode("utf-8", "replace")


def _run(source, namespace):
    """The value of the last line, if that is an expression."""
    import _ast  # not ast, which is slow to import

    tree = compile(source, FILE, "exec", _ast.PyCF_ONLY_AST, True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    code = compile(tree, FILE, "exec", 0, True)
    exec(code, namespace)
    if last is None:
        return None
    expression = compile(_ast.Expression(last.value), FILE, "eval", _future_flags(source, code), True)
    return eval(expression, namespace)


def _future_flags(source, code):
    if b"__future__" not in source:
        return 0
    import __future__

    flags = [getattr(__future__, name).compiler_flag for name in __future__.all_feature_names]
    return sum({code.co_flags & flag for flag in flags})


def _print(error):
    """The traceback as it would look without us."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is globals():
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        sys.stdout.flush()
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, trace)
        else:
            # The interpreter's own hook looks for a file with the code's name; this one asks our loader.
            import traceback

            traceback.print_exception(type(error), error, trace)
        sys.stderr.flush()
    except Exception:
        sys.__excepthook__(type(error), error, trace)


def _show_figures():
    if "matplotlib.pyplot" in sys.modules and os.getpid() == _Results.pid:
        try:
            import thawbox_figures

            thawbox_figures.show()
        except Exception as error:
            sys.stderr.write("the open figures cannot be shown: %s\n" % error)


class _Finder:
    """Finds the modules beside this one, and steps in when a plotting library is imported."""

    def __init__(self):
        self._hooks = {"matplotlib": _use_our_backend, "plotly.basedatatypes": _catch_plotly}

    def find_spec(self, name, path=None, target=None):
        if name.startswith("thawbox_"):
            from importlib.util import spec_from_file_location

            file = os.path.join(_FOLDER, name + ".py")
            return spec_from_file_location(name, file) if os.path.exists(file) else None
        hook = self._hooks.pop(name, None)
        if hook is None:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader.exec_module = _followed_by(spec.loader.exec_module, hook)
                return spec
        return None


def _followed_by(exec_module, hook):
    def exec_then_hook(module):
        exec_module(module)
        hook(module)

    return exec_then_hook


def _use_our_backend(matplotlib):
    if "MPLBACKEND" not in os.environ:
        matplotlib.use("module://thawbox_figures")


def _catch_plotly(module):
    import thawbox_rich

    module.BaseFigure.show = thawbox_rich.show_plotly


if __name__ == "__main__":
    sys.exit(execute(read_source(), take_result_fd()))
