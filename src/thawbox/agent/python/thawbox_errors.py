"""Tracebacks of the code that ``run`` runs. For the template's own Python."""

import sys


def show(error, runner_globals):
    """Print the traceback without the outer frames whose globals are ``runner_globals``."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is runner_globals:
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        sys.stdout.flush()
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, trace)
        else:
            # The interpreter's own hook looks for a file with the code's name; ``traceback`` uses the module's loader.
            import traceback

            traceback.print_exception(type(error), error, trace)
        sys.stderr.flush()
    except Exception:
        sys.__excepthook__(type(error), error, trace)
