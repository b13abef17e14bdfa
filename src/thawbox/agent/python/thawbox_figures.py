"""A matplotlib backend that sends figures as PNG. For the template's own Python and matplotlib."""

import base64
import io

import thawbox_results
from matplotlib._pylab_helpers import Gcf
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

FigureCanvas = FigureCanvasAgg
FigureManager = FigureManagerBase


def new_figure_manager(num, *args, FigureClass=Figure, **kwargs):
    """Part of matplotlib's interface of a backend."""
    return new_figure_manager_given_figure(num, FigureClass(*args, **kwargs))


def new_figure_manager_given_figure(num, figure):
    """Part of matplotlib's interface of a backend."""
    return FigureManager(FigureCanvas(figure), num)


def draw_if_interactive():
    """Part of matplotlib's interface of a backend; this one is not interactive."""


def show(*_args, **_kwargs):
    """Send every open figure, and close it, as a window that was shown would be closed."""
    for manager in Gcf.get_all_fig_managers():
        picture = io.BytesIO()
        manager.canvas.figure.savefig(picture, format="png", bbox_inches="tight")
        thawbox_results.send("display", {"image/png": base64.b64encode(picture.getvalue()).decode()})
    Gcf.destroy_all()
