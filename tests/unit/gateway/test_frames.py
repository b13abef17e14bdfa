from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from thawbox.gateway.sockets import frames
from thawbox.gateway.sockets.frames import Frame, FrameQueue

texts = st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=8))
actions = st.lists(st.one_of(texts, st.just("take"), st.just("event")), max_size=60)


def text_of(sent: list[Frame], kind: str) -> str:
    return "".join(frame["data"] for frame in sent if frame["type"] == kind)


@given(actions)
def test_nothing_is_lost_doubled_or_out_of_order(todo: list[tuple[str, str] | str]) -> None:
    waiting = FrameQueue()
    sent: list[Frame] = []
    given_text = {"stdout": "", "stderr": ""}
    events = 0
    before: list[dict[str, int]] = []
    for action in todo:
        if isinstance(action, tuple):
            waiting.add_text(*action)
            given_text[action[0]] += action[1]
        elif action == "event":
            waiting.add({"type": "event", "number": events})
            before.append({kind: len(text) for kind, text in given_text.items()})
            events += 1
        elif len(waiting):
            sent.append(waiting.take())
    while len(waiting):
        sent.append(waiting.take())
    for kind, text in given_text.items():
        assert text_of(sent, kind) == text
    places = [at for at, item in enumerate(sent) if item["type"] == "event"]
    assert [sent[at]["number"] for at in places] == list(range(events))
    for at, lengths in zip(places, before, strict=True):
        assert {kind: len(text_of(sent[:at], kind)) for kind in lengths} == lengths
    assert not waiting.full


@given(st.lists(st.text(max_size=50)))
def test_what_waits_is_one_frame(pieces: list[str]) -> None:
    waiting = FrameQueue()
    for piece in pieces:
        waiting.add_text("output", piece)
    assert len(waiting) == (1 if any(pieces) else 0)


def test_no_frame_is_too_long_and_too_much_is_full() -> None:
    waiting = FrameQueue()
    text = "".join(chr(97 + at % 26) for at in range(frames.WAITING_MAX))
    waiting.add_text("output", text[:-1])
    assert not waiting.full
    waiting.add_text("output", text[-1])
    assert waiting.full
    taken = [waiting.take() for _ in range(len(waiting))]
    assert max(len(item["data"]) for item in taken) == frames.TEXT_MAX
    assert text_of(taken, "output") == text
    assert not waiting.full


def test_frames_that_are_no_text_fill_it_too() -> None:
    waiting = FrameQueue()
    for number in range(frames.WAITING_MAX // frames.FRAME_WEIGHT):
        assert not waiting.full
        waiting.add({"type": "change", "number": number})
    assert waiting.full


def test_order_of_types_is_that_of_their_first_piece() -> None:
    waiting = FrameQueue()
    for kind in ("stdout", "stderr", "stdout"):
        waiting.add_text(kind, "x")
    taken = [waiting.take() for _ in range(len(waiting))]
    assert [(kind, len(list(group))) for kind, group in groupby(item["type"] for item in taken)] == [
        ("stdout", 1),
        ("stderr", 1),
    ]
