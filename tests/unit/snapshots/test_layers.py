"""The store of layers."""

from __future__ import annotations

import os
import time

from thawbox.snapshots import layers
from thawbox.snapshots.layers import Layer
from thawbox.state import Layout


def publish(layout: Layout, key: str, content: str) -> Layer:
    half_made = layout.tmp / "half-made"
    (half_made / "fs").mkdir(parents=True)
    (half_made / "fs" / "file").write_text(content)
    return layers.publish(layout, key, half_made, {"title": content})


def test_a_published_layer_is_found_by_its_key(layout: Layout) -> None:
    assert layers.find(layout, "key") is None
    made = publish(layout, "key", "one")
    assert layers.find(layout, "key") == layers.get(layout, "key") == made
    assert (made.tree / "file").read_text() == "one"
    assert (made.about["key"], made.about["title"]) == ("key", "one")
    assert list(layout.tmp.iterdir()) == []


def test_a_key_that_is_built_again_stands_for_the_new_layer_and_the_old_one_stays(layout: Layout) -> None:
    old = publish(layout, "key", "old")
    new = publish(layout, "key", "new")
    assert old.id == "key"
    assert len(new.id) == layers.ID_LENGTH
    assert layers.find(layout, "key") == new
    assert layers.get(layout, "key") == old
    assert (old.tree / "file").read_text() == "old"


def test_what_a_removal_left_half_done_is_no_layer_and_is_replaced(layout: Layout) -> None:
    made = publish(layout, "key", "one")
    (made.folder / "layer.json").unlink()
    assert layers.find(layout, "key") is None
    assert layers.get(layout, "key") is None
    again = publish(layout, "key", "two")
    assert again.id == "key"
    assert (again.tree / "file").read_text() == "two"


def test_what_is_neither_kept_nor_used_lately_is_removed(layout: Layout) -> None:
    old = {name: publish(layout, name, name) for name in ("kept", "found", "unused")}
    hour_ago = time.time() - 3600
    for layer in old.values():
        os.utime(layer.folder / "layer.json", (hour_ago, hour_ago))
    publish(layout, "new", "new")
    layers.find(layout, "found")
    (layout.layers / "index" / ".half-made").write_text("kept")
    size = layers.size_of(old["unused"].folder)
    assert size > 0
    assert layers.collect(layout, ["kept"], unused_for_s=60) == (1, size)
    assert {path.name for path in layout.layers.iterdir()} == {"index", "kept", "found", "new"}
    assert {path.name for path in (layout.layers / "index").iterdir()} == {"kept", "found", "new"}
    assert layers.collect(layout, [], unused_for_s=0)[0] == 3
    assert list((layout.layers / "index").iterdir()) == []


def test_a_layer_that_is_half_removed_goes_however_new_it_is(layout: Layout) -> None:
    (layout.layers / "half" / "fs").mkdir(parents=True)
    assert layers.collect(layout, [], unused_for_s=3600)[0] == 1
    assert layers.collect(layout, [], unused_for_s=3600) == (0, 0)


def test_lists_of_parts_have_digests_of_their_own() -> None:
    digests = {layers.digest(*parts) for parts in (["ab"], ["a", "b"], ["a", "b", ""], ["b", "a"], [])}
    assert len(digests) == 5
    assert {len(digest) for digest in digests} == {layers.ID_LENGTH}
