"""Bytes in, frames out, whatever the bytes are."""

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thawbox.agent import protocol
from thawbox.agent.protocol import Decoder, ProtocolError, encode_frame, encode_request

SECRET = "0123456789abcdef" * 4
frames = st.lists(
    st.tuples(st.sampled_from(sorted(protocol.FROM_GUEST)), st.binary(max_size=300)), max_size=20
)


@st.composite
def chunked(draw: st.DrawFn) -> tuple[list[protocol.Frame], list[bytes]]:
    """Frames, and their bytes cut anywhere."""
    wanted = draw(frames)
    data = b"".join(encode_frame(kind, payload) for kind, payload in wanted)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=10)))
    edges = [0, *cuts, len(data)]
    return wanted, [data[start:end] for start, end in pairwise(edges)]


@given(chunked())
def test_any_chunking_gives_the_same_frames(case: tuple[list[protocol.Frame], list[bytes]]) -> None:
    wanted, pieces = case
    decoder = Decoder(protocol.FROM_GUEST)
    assert [frame for piece in pieces for frame in decoder.feed(piece)] == wanted
    assert decoder.empty


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_is_refused_or_waited_for(pieces: list[bytes]) -> None:
    decoder = Decoder(protocol.FROM_GUEST)
    try:
        for piece in pieces:
            for kind, payload in decoder.feed(piece):
                assert kind in protocol.FROM_GUEST
                assert len(payload) <= protocol.FRAME_MAX
    except ProtocolError:
        with pytest.raises(ProtocolError):
            decoder.feed(b"")


@given(st.binary(max_size=400))
def test_json_from_a_stranger_is_an_object_or_refused(payload: bytes) -> None:
    with suppress(ProtocolError):
        assert isinstance(protocol.decode_object(payload), dict)


@pytest.mark.parametrize(
    "payload", [b"[" * 200_000, b'{"a":' * 200_000, b"9" * 10_000, b"\xff", b"", b"null"]
)
def test_hostile_json_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_object(payload)


def test_an_announced_length_beyond_the_bound_is_refused_at_once() -> None:
    header = bytes([protocol.STDOUT]) + (protocol.FRAME_MAX + 1).to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="not allowed"):
        Decoder(protocol.FROM_GUEST).feed(header)


def test_kinds_of_the_other_direction_are_refused() -> None:
    with pytest.raises(ProtocolError):
        Decoder(protocol.TO_GUEST).feed(encode_frame(protocol.STDOUT, b"x"))
    with pytest.raises(ProtocolError):
        Decoder(protocol.FROM_GUEST).feed(encode_frame(protocol.STDIN, b"x"))


def test_the_longest_frame_passes_and_one_more_byte_does_not() -> None:
    longest = encode_frame(protocol.DATA, b"x" * protocol.FRAME_MAX)
    assert len(Decoder(protocol.TO_GUEST).feed(longest)[0][1]) == protocol.FRAME_MAX
    with pytest.raises(ProtocolError):
        encode_frame(protocol.DATA, b"x" * (protocol.FRAME_MAX + 1))


@given(
    st.dictionaries(
        st.text(max_size=10).filter(lambda name: name not in ("secret", "op")), st.text(max_size=20)
    )
)
def test_a_request_is_one_line_that_begins_with_the_secret(fields: dict[str, object]) -> None:
    line = encode_request("ping", SECRET, fields)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert protocol.presented_secret(line[: protocol.PREFIX_LENGTH]) == SECRET.encode()
    assert json.loads(line) == {"secret": SECRET, "op": "ping", **fields}


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\n", b'{"secret":"', b"x" * protocol.PREFIX_LENGTH])
def test_what_does_not_begin_like_a_request_presents_no_secret(start: bytes) -> None:
    assert protocol.presented_secret(start) is None


@pytest.mark.parametrize("secret", ["", "ab", "g" * 64, "é" * 64, "a" * 65])
def test_a_secret_of_another_shape_is_refused(secret: str) -> None:
    with pytest.raises(ProtocolError):
        encode_request("ping", secret)


def test_an_over_long_request_is_refused() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        encode_request("spawn", SECRET, {"shell": "x" * protocol.REQUEST_MAX})
