"""What comes through a worker's output pipe is taken apart right, whatever it is and wherever it is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopool._core import records
from aiopool._core.records import Head, Parser

TOKEN = bytes(range(200, 200 + records.TOKEN_SIZE))

Piece = tuple[Head | None, bytes]


def _begun(head: Head) -> bytes:
    return records.head(TOKEN, head.kind, head.job, head.item)


heads = st.builds(Head, st.integers(records.OUT, records.FAILED), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
payloads = st.binary(max_size=40).filter(lambda text: TOKEN not in text)
printed = st.binary(min_size=1, max_size=40).filter(lambda text: not set(text) & set(TOKEN))
"""By C code: nothing that looks like a part of a token."""
pieces = st.one_of(st.tuples(heads, payloads), st.tuples(st.none(), printed))
garbage = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.sampled_from([TOKEN, TOKEN[:5], TOKEN[5:], TOKEN[:-1], TOKEN * 2]),
        st.builds(_begun, heads),
        st.builds(lambda head, text: records.record(_begun(head), text), heads, st.binary(max_size=30)),
    ),
    max_size=20,
).map(b"".join)


def written(sent: list[Piece]) -> bytes:
    """The bytes of it all."""
    return b"".join(text if head is None else records.record(_begun(head), text) for head, text in sent)


def parted(data: bytes, cuts: list[int]) -> list[bytes]:
    """The same in parts."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def parsed(parts: list[bytes]) -> list[Piece]:
    """What the parser makes of these parts, and of the end."""
    parser = Parser(TOKEN)
    found = [piece for part in parts for piece in parser.feed(part)]
    rest = parser.end()
    return [*found, (None, rest)] if rest else found


def joined(found: list[Piece]) -> list[Piece]:
    """Neighbours of the same head as one, where they are text."""
    told: list[Piece] = []
    for head, text in found:
        if told and told[-1][0] == head and (head is None or head.kind in (records.OUT, records.ERR, records.QUIET)):
            told[-1] = (head, told[-1][1] + text)
        else:
            told.append((head, text))
    return told


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces, max_size=12), st.lists(st.integers(0, 10_000), max_size=8))
def test_what_was_sent_comes_out_whole_and_in_order(sent, cuts):
    """Records with their payloads, and between them what C code printed, cut anywhere."""
    assert joined(parsed(parted(written(sent), cuts))) == joined(sent)


@settings(max_examples=500, deadline=None)
@given(garbage, st.lists(st.integers(0, 10_000), max_size=8))
def test_garbage_is_told_the_same_however_it_is_cut(data, cuts):
    """Torn records, half heads, tokens that somebody has printed: nothing raises, nothing is lost, nothing is kept."""
    assert joined(parsed(parted(data, cuts))) == joined(parsed([data]))
    assert sum(len(text) for _, text in parsed([data])) <= len(data)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 10_000), max_size=8))
def test_what_holds_no_token_is_printed_as_it_is(data, cuts):
    """Every byte of it."""
    if TOKEN not in data:
        assert b"".join(text for _, text in parsed(parted(data, cuts))) == data


def test_neighbours_of_one_head_are_joined_but_not_what_stands_for_itself():
    """A hundred short lines are taken in as one text; two warnings are two."""
    line, warning = records.head(TOKEN, records.OUT, 1, 7), records.head(TOKEN, records.WARNED, 1, 7)
    assert Parser(TOKEN).feed(records.record(line, b"a\n") * 100) == [(Head(records.OUT, 1, 7), b"a\n" * 100)]
    assert Parser(TOKEN).feed(records.record(warning, b"a") * 2) == [(Head(records.WARNED, 1, 7), b"a")] * 2


@pytest.mark.parametrize("count", [1, 7, records.LONGEST - 1])
def test_a_record_is_held_until_it_is_whole_and_no_longer(count):
    """What is kept of it is never more than one record."""
    beginning = records.head(TOKEN, records.OUT, 1, 7)
    whole = records.record(beginning, b"x" * records.ROOM)
    assert len(whole) == records.LONGEST
    parser = Parser(TOKEN)
    assert parser.feed(whole[:-count]) == []
    assert parser.feed(whole[-count:]) == [(Head(records.OUT, 1, 7), b"x" * records.ROOM)]
    assert parser.end() == b""


def test_a_length_that_no_record_has_is_not_waited_for():
    """It is something that somebody has printed."""
    data = records.head(TOKEN, records.OUT, 1, 7) + b"\xff\xff" + b"and on"
    assert Parser(TOKEN).feed(data) == [(None, data)]


@settings(max_examples=1000, deadline=None)
@given(st.text(min_size=1), st.binary(min_size=records.TOKEN_SIZE, max_size=records.TOKEN_SIZE).map(records.token))
def test_no_text_is_held_back_for_its_end(text, token):
    """A line that C code prints is shown at once, and not when the next one comes, whatever token the worker has."""
    data = text.encode("utf-8", "replace")
    assert Parser(token).feed(data) == [(None, data)]
