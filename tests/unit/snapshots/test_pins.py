"""What work under way keeps from being removed."""

from __future__ import annotations

import pytest

from thawbox.snapshots.pins import Pins


def test_a_name_is_pinned_as_long_as_anybody_holds_it() -> None:
    pins = Pins()
    with pins.holder() as first:
        first("a")
        with pins.holder() as second:
            second("a")
            second("a")
            second("b")
            assert pins.names() == {"a", "b"}
        assert pins.names() == {"a"}
        assert "a" in pins
        assert "b" not in pins
    assert pins.names() == set()
    assert "a" not in pins


def test_pins_go_with_a_failure_too() -> None:
    pins = Pins()

    def work() -> None:
        with pins.holder() as pin:
            pin("a")
            raise ValueError("work")

    with pytest.raises(ValueError, match="work"):
        work()
    assert pins.names() == set()
