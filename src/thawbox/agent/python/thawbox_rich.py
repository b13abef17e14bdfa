"""Values as MIME types, as a notebook would show them. For the template's own Python."""

import thawbox_results

TEXT_MAX = 1 << 20
"""Characters of a value's repr."""
ROWS_MAX = 1000
"""Rows of a table that are sent as data."""
_METHODS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
)


def send_value(value):
    """Send the value of the code's last line. Errors of its own ``__repr__`` are not caught."""
    text = repr(value)
    thawbox_results.send("result", {**_rich(value), "text/plain": text[:TEXT_MAX]})


def show_plotly(figure, *_args, **_kwargs):
    """In place of a plotly figure's ``show``, which would open a browser."""
    thawbox_results.send("display", _rich(figure))


def _rich(value):
    kind = type(value)
    family = (kind.__module__ or "").partition(".")[0]
    data = {}
    if family == "plotly" and hasattr(kind, "to_html"):
        return _plotly(value)
    for name, mime in _METHODS:
        method = getattr(kind, name, None)
        if callable(method):
            _add(data, mime, lambda method=method: method(value))
    bundle = getattr(kind, "_repr_mimebundle_", None)
    if callable(bundle):
        _add_bundle(data, lambda: bundle(value))
    if family == "pandas":
        _add(data, "application/vnd.dataframe+json", lambda: _table(value))
    elif kind in (dict, list):
        _add(data, "application/json", lambda: _plain(value))
    return data


def _add(data, mime, make):
    """Put ``make()`` under ``mime``, unless it returns None or fails; the value's repr is sent in any case."""
    try:
        content = make()
    except Exception:
        return
    if isinstance(content, tuple):  # with metadata
        content = content[0]
    if isinstance(content, (bytes, bytearray)):
        import base64

        content = base64.b64encode(content).decode()
    if content is not None:
        data[mime] = content


def _add_bundle(data, make):
    try:
        made = make()
    except Exception:
        return
    if isinstance(made, tuple):
        made = made[0]
    if isinstance(made, dict):
        for mime, content in made.items():
            if mime != "text/plain":
                _add(data, mime, lambda content=content: content)


def _plotly(figure):
    import json

    data = {}
    _add(data, "text/html", lambda: figure.to_html(full_html=False, include_plotlyjs="cdn"))
    _add(data, "application/json", lambda: json.loads(figure.to_json()))
    return data


def _table(value):
    import json

    if not hasattr(value, "to_json"):
        return None
    return json.loads(value.head(ROWS_MAX).to_json(orient="split", date_format="iso", default_handler=str))


def _plain(value):
    import json

    return json.loads(json.dumps(value, allow_nan=False))
