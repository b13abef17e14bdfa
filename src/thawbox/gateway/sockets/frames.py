"""Frames that wait to be sent over a WebSocket: joined where they can be, and bounded. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

Frame = dict[str, Any]
"""One JSON object; ``type`` is its kind."""

TEXT_MAX = 64 * 1024
"""Characters of text in one frame. As JSON they are below 1 MiB, the most that the ``websockets`` library takes."""
WAITING_MAX = 256 * 1024
"""Waiting characters from which on a producer has to wait."""
FRAME_WEIGHT = 256
"""Characters that a frame without text counts as."""


class FrameQueue:
    """A queue of frames that joins waiting text of one type into one frame.

    Text keeps its order within a type. Text of two types (stdout and stderr) may change places, since it came
    through two pipes without an order. No text moves past a frame without text.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[Frame, bool]] = deque()  # and whether it is text
        self._open: dict[str, Frame] = {}
        """By type: the waiting frame to which text may still be added."""
        self._weight = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def full(self) -> bool:
        """Whether producers have to wait."""
        return self._weight >= WAITING_MAX

    def add_text(self, kind: str, text: str, **fields: Any) -> None:
        """Queue ``text`` as ``{"type": kind, "data": text, **fields}``, or add it to such a frame that waits."""
        frame = self._open.get(kind)
        while text:
            if frame is None or len(frame["data"]) >= TEXT_MAX:
                frame = self._open[kind] = {"type": kind, "data": "", **fields}
                self._frames.append((frame, True))
            piece = text[: TEXT_MAX - len(frame["data"])]
            frame["data"] += piece
            self._weight += len(piece)
            text = text[len(piece) :]

    def add(self, frame: Frame) -> None:
        """Queue a frame as it is."""
        self._open.clear()
        self._frames.append((frame, False))
        self._weight += FRAME_WEIGHT

    def take(self) -> Frame:
        """The frame that has waited longest.

        Raises:
            IndexError: the queue is empty.
        """
        frame, is_text = self._frames.popleft()
        self._weight -= len(frame["data"]) if is_text else FRAME_WEIGHT
        if is_text and self._open.get(frame["type"]) is frame:
            del self._open[frame["type"]]
        return frame
