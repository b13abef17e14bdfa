"""Runs code as ``python3 main.py`` would, and sends its rich results. For the template's own Python, 3.8 or newer.

The code comes on standard input. Results leave on the descriptor that ``THAWBOX_RESULT_FD`` names, as lines of JSON::

    {"kind": "result" or "display", "data": {"<MIME type>": <text, base64 of an image, or JSON>}}

``result`` is the value of the last line if that is an expression; ``display`` is a figure that was shown or left open.

The code must not notice this module. So nothing is imported before it is needed, and nothing is added to the code's
namespace. What ``print(1)`` does not need is in files beside this one, because every start compiles this one again,
1 ms for 100 lines. A process that runs more than one program calls ``prepare`` early and ``execute`` in a fork.
"""

import os
import sys

RESULT_FD = "THAWBOX_RESULT_FD"
FILE = "main.py"
"""The code's file name in tracebacks."""
_FOLDER = os.path.dirname(os.path.abspath(__file__))


def read_source():
    """All of standard input, as bytes. Replaces it by /dev/null."""
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
    """The descriptor for results, or None. Processes that the code starts get neither it nor the variable."""
    text = os.environ.pop(RESULT_FD, "")
    if not text.isdigit():
        return None
    os.set_inheritable(int(text), False)
    return int(text)


def prepare():
    """Hook the import of plotting libraries. May be called more than once."""
    sys.modules.setdefault("thawbox_run", sys.modules[__name__])
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def execute(source, result_fd):
    """Run ``source`` (bytes) as the main module; returns its exit status, or raises its own SystemExit.

    Its traceback is printed. Descriptors, working folder, environment and user are those of this process.
    """
    Results.fd = result_fd
    Results.pid = os.getpid()
    prepare()
    sys.stdout.reconfigure(line_buffering=True)  # printed lines are not lost if the process is killed
    sys.argv = [FILE]
    if sys.path and sys.path[0] == _FOLDER:
        sys.path[0] = ""  # the code's imports are searched in its working folder
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
        try:
            import thawbox_errors

            thawbox_errors.show(error, globals())
        except Exception:  # the code has broken imports or the printing of errors
            sys.__excepthook__(type(error), error, error.__traceback__)
        status = 130 if isinstance(error, KeyboardInterrupt) else 1
    _show_figures()
    return status


class Results:
    """The descriptor for results, or None, and the process that may write to it."""

    fd = None
    pid = 0


class _Source:
    """The loader of the main module: traceback and ``inspect`` get its lines from here."""

    def __init__(self, source):
        self._source = source

    def get_source(self, _name):
        return self._source.decode("utf-8", "replace")


def _run(source, namespace):
    """Run the code; returns the value of the last line if that is an expression."""
    import _ast  # not ast, which is slow to import

    tree = compile(source, FILE, "exec", _ast.PyCF_ONLY_AST, True)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], _ast.Expr) else None
    code = compile(tree, FILE, "exec", 0, True)
    exec(code, namespace)
    if last is None:
        return None
    flags = 0
    if b"__future__" in source:
        import __future__

        for name in __future__.all_feature_names:
            flags |= code.co_flags & getattr(__future__, name).compiler_flag
    return eval(compile(_ast.Expression(last.value), FILE, "eval", flags, True), namespace)


def _show_figures():
    if "matplotlib.pyplot" in sys.modules and os.getpid() == Results.pid:
        try:
            import thawbox_figures

            thawbox_figures.show()
        except Exception as error:
            sys.stderr.write("the open figures cannot be shown: %s\n" % error)


class _Finder:
    """Finds the modules beside this one, and hooks the import of plotting libraries."""

    def __init__(self):
        self.awaited = {"matplotlib", "plotly.basedatatypes"}

    def find_spec(self, name, path=None, target=None):
        if name.startswith("thawbox_"):
            # importlib.util's own, which is slow to import.
            from _frozen_importlib_external import spec_from_file_location

            file = os.path.join(_FOLDER, name + ".py")
            return spec_from_file_location(name, file) if os.path.exists(file) else None
        if name not in self.awaited:
            return None
        self.awaited.discard(name)
        import thawbox_plots

        return thawbox_plots.spec_with_hook(self, name, path, target)


if __name__ == "__main__":
    sys.exit(execute(read_source(), take_result_fd()))
