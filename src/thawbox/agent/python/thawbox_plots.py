"""Hooks that change plotting libraries when the code imports them. For the template's own Python."""

import os
import sys


def spec_with_hook(caller, name, path, target):
    """The module's spec from the finders other than ``caller``, with a loader that runs the hook after the module."""
    for finder in sys.meta_path:
        find = None if finder is caller else getattr(finder, "find_spec", None)
        spec = None if find is None else find(name, path, target)
        if spec is not None:
            if hasattr(spec.loader, "exec_module"):
                spec.loader.exec_module = _followed_by(spec.loader.exec_module, _HOOKS[name])
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


_HOOKS = {"matplotlib": _use_our_backend, "plotly.basedatatypes": _catch_plotly}
