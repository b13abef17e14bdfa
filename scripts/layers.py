"""Draw the layers of Thawbox: ``.venv/bin/python scripts/layers.py`` writes docs/contributing/layers.svg.

The layers are those of the import contract in pyproject.toml, the words those of the table in CONTRIBUTING.md. A test
fails when the picture is stale.
"""

from __future__ import annotations

import re
import tomllib
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "contributing" / "layers.svg"

WIDTH, ROW, GAP, MARGIN = 960, 44, 8, 16
ARROW = 44
"""Room at the right for the arrow."""


def layers() -> list[list[str]]:
    """The packages of each layer, the highest layer first."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    (contract,) = (each for each in tools["importlinter"]["contracts"] if each["type"] == "layers")
    return [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]


def table() -> list[tuple[list[str], list[str]]]:
    """The rows of CONTRIBUTING's table of packages: names, and what each is."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = text.partition("| package | what it is |\n")[2].partition("\n\n")[0].splitlines()[1:]
    cells = [row.strip("|").split("|") for row in rows]
    return [
        (re.findall(r"`(\w+)`", names), [part.strip() for part in meanings.replace("`", "").split(";")])
        for names, meanings in cells
    ]


def svg() -> str:
    """The picture: a row for each layer, in it a box for each package."""
    meanings = {name: meaning for names, texts in table() for name, meaning in zip(names, texts, strict=True)}
    right = WIDTH - MARGIN - ARROW
    height = 2 * MARGIN + len(layers()) * (ROW + GAP) - GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="DejaVu Sans, Verdana, sans-serif">',
        "<!-- Made by scripts/layers.py -->",
        "<title>The packages of Thawbox: each may import those in the rows below it</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, names in enumerate(layers()):
        top = MARGIN + number * (ROW + GAP)
        width = (right - MARGIN - GAP * (len(names) - 1)) / len(names)
        for column, name in enumerate(names):
            left = MARGIN + column * (width + GAP)
            lines += [
                f'<rect x="{left:g}" y="{top}" width="{width:g}" height="{ROW}" rx="5" fill="#e8f1f8" '
                'stroke="#5b8db3"/>',
                f'<text x="{left + 12:g}" y="{top + 18}" font-size="14" font-weight="bold" fill="#12344d">'
                f"{escape(name)}</text>",
                f'<text x="{left + 12:g}" y="{top + 35}" font-size="11" fill="#33475b">'
                f"{escape(meanings[name])}</text>",
            ]
    x, bottom = right + ARROW / 2, height - MARGIN
    lines += [
        f'<path d="M {x:g} {MARGIN} V {bottom - 10}" stroke="#5b8db3" stroke-width="2" fill="none"/>',
        f'<path d="M {x - 6:g} {bottom - 12} L {x:g} {bottom} L {x + 6:g} {bottom - 12} Z" fill="#5b8db3"/>',
        f'<text transform="translate({x + 18:g} {height / 2:g}) rotate(-90)" font-size="13" text-anchor="middle" '
        'fill="#33475b">imports point down; packages in one row do not import each other</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PICTURE.write_text(svg())
