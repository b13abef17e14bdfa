"""``warm`` and ``kernel`` of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from thawbox.errors import InvalidTemplate
from thawbox.settings import load
from thawbox.templates.dialects import MAX_WARM, parse_recipe
from thawbox.templates.recipe import Recipe


def parse(**fields: Any) -> Recipe:
    return parse_recipe({"name": "t", "from_image": "python:3.11", **fields}, settings=load())


def test_absent() -> None:
    assert (parse().warm, parse().kernel) == ((), False)
    assert (parse(warm=None, kernel=None).warm, parse(warm=None).kernel) == ((), False)


def test_modules_keep_their_order_and_come_once() -> None:
    recipe = parse(warm=["numpy", "matplotlib.pyplot", "numpy", "_x1"], kernel=True)
    assert recipe.warm == ("numpy", "matplotlib.pyplot", "_x1")
    assert recipe.kernel is True


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"warm": "numpy"}, 'warm must be a list of texts, not "numpy"'),
        ({"warm": ["a", 1]}, "warm[1] must be text, not 1"),
        ({"warm": ["a;b"]}, 'warm[0] "a;b" is not the name of a Python module'),
        ({"warm": ["a..b"]}, "is not the name of a Python module"),
        ({"warm": [""]}, "is not the name of a Python module"),
        ({"warm": ["-c"]}, "is not the name of a Python module"),
        ({"warm": ["a"] * (MAX_WARM + 1)}, f"at most {MAX_WARM}"),
        ({"kernel": "yes"}, 'kernel must be true or false, not "yes"'),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidTemplate) as caught:
        parse(**fields)
    assert sentence in caught.value.message
