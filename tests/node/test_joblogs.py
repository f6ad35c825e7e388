"""What of a program's output was sent already, over any number of readings from its start; and its last lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacalhau.node.joblogs import _Sent
from bacalhau.node.works import STDERR, STDOUT

pieces = st.lists(st.binary(min_size=1, max_size=12), max_size=12)


def read(sent: _Sent, stream: int, content: list[bytes]) -> bytes:
    sent.restart()
    return b"".join(data for piece in content for _, data in sent.new(stream, piece))


@given(content=st.binary(max_size=100), cuts=st.lists(st.integers(0, 100), max_size=8))
def test_broken_readings_together_give_each_byte_once(content: bytes, cuts: list[int]) -> None:
    sent = _Sent(0)
    out = b"".join(read(sent, STDOUT, [content[:cut]]) for cut in cuts)
    out += read(sent, STDOUT, [content])
    assert out == content
    assert read(sent, STDOUT, [content]) == b""


@given(first=pieces, second=pieces)
def test_streams_are_counted_apart(first: list[bytes], second: list[bytes]) -> None:
    sent = _Sent(0)
    assert read(sent, STDOUT, first) == b"".join(first)
    assert read(sent, STDERR, second) == b"".join(second)
    assert read(sent, STDOUT, first) == b""


def last_lines(content: bytes, count: int) -> bytes:
    return b"".join(content.splitlines(keepends=True)[-count:])


@given(
    content=st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"d\ne"]), max_size=30),
    count=st.integers(1, 5),
)
def test_a_tail_is_the_last_lines_however_they_come_in_pieces(content: list[bytes], count: int) -> None:
    sent = _Sent(count)
    assert read(sent, STDOUT, content) == b""
    expected = last_lines(b"".join(content), count)
    assert sent.rest() == ([(STDOUT, expected)] if expected else [])


def test_after_the_tail_only_what_is_new_is_sent() -> None:
    sent = _Sent(1)
    assert read(sent, STDOUT, [b"one\ntwo\n"]) == b""
    assert sent.rest() == [(STDOUT, b"two\n")]
    assert read(sent, STDOUT, [b"one\n", b"two\nthree\n"]) == b"three\n"
    assert sent.rest() == []


@pytest.mark.parametrize("count", [1, 3])
def test_a_tail_holds_no_more_than_it_will_send_and_a_piece(count: int) -> None:
    sent = _Sent(count)
    for number in range(10_000):
        sent.new(STDOUT, b"line %d\n" % number)
    assert len(sent._held[STDOUT]._pieces) <= count + 1
    assert sent.rest() == [(STDOUT, b"".join(b"line %d\n" % n for n in range(10_000 - count, 10_000)))]
