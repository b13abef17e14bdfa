"""Tracebacks of the code that ``run`` runs. For the template's own Python."""

import sys


def show(error, ours):
    """Print the traceback as it would look without the frames whose globals are ``ours``."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals is ours:
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
