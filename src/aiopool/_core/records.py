"""What a worker prints, as bytes on the one pipe that is its standard output and error.

What Python code prints travels as records, each written at once, so that none is torn::

    token 12 | kind 1 | job 8 | item 8 | length 2 | payload

The token is random and known to one worker and its parent only, so that nothing that anybody prints is taken for a
record. Whatever stands between records was written by C code or by a program, and belongs to the worker. Numbers are
little-endian. The parser never fails: what is no whole record is something that was printed.
"""

from __future__ import annotations

import struct

from aiopool.frozen import frozen

__all__ = ["LONGEST", "ROOM", "TOKEN_SIZE", "Head", "Parser", "head", "record", "token"]

TOKEN_SIZE = 12
LONGEST = 4096
"""So many bytes a record has at most: what the system writes to a pipe in one piece, where it can do that much."""

OUT = 1
"""Text for standard output."""
ERR = 2
"""Text for standard error."""
QUIET = 3
"""A line that was overwritten in place, as it was in the end: kept as something that was printed, but not shown."""
WARNED = 4
"""A warning, as Python shows it."""
PART = 5
"""Of something that is displayed: 8 bytes that name it, and a part of it; others follow."""
LAST = 6
"""The same, the last part."""
ENDED = 7
"""The item has ended."""
FAILED = 8
"""The item has failed; so it will be asked for what it printed."""

_KINDS = frozenset(range(OUT, FAILED + 1))
_JOINED = frozenset((OUT, ERR, QUIET))
_HEAD = struct.Struct("<BQQ")
_SIZE = _HEAD.size + 2
ROOM = LONGEST - TOKEN_SIZE - _SIZE
"""How long the payload of the longest record is."""


@frozen
class Head:
    """What a record is, and whose. ``job`` 0: the worker's own, of what runs beside items."""

    kind: int
    job: int
    item: int


def token(chance: bytes) -> bytes:
    """A token for one worker, of so many random bytes as a token has.

    No text in UTF-8 has its first byte, nor ends in it: the parser holds back what may be the beginning of a token, and
    with a random first byte that is the end of every line for one worker in 256.
    """
    return b"\xff" + chance[1:]


def head(token: bytes, kind: int, job: int = 0, item: int = 0) -> bytes:
    """The beginning of records."""
    return token + _HEAD.pack(kind, job, item)


def record(beginning: bytes, payload: bytes) -> bytes:
    """A whole record."""
    return beginning + len(payload).to_bytes(2, "little") + payload


class Parser:
    """Takes apart what comes through the pipe, cut anywhere."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[Head | None, bytes]]:
        """What is complete: records, of neighbours with the same head the texts joined, and without a head the rest."""
        first, *parts = (self._rest + data).split(self._token)
        self._rest = b""
        found: list[tuple[Head | None, bytes]] = []
        if not parts:
            first = self._hold_back(first)
        if first:
            found.append((None, first))
        beginning, texts = b"", list[bytes]()
        last = len(parts) - 1
        for number, part in enumerate(parts):
            told = self._cut(part, is_last=number == last)
            if told is None:
                break
            begins, payload, raw = told
            if begins != beginning or raw or begins[0] not in _JOINED:
                if beginning:
                    found.append((Head(*_HEAD.unpack(beginning)), b"".join(texts)))
                    texts = []
                beginning = begins
            texts.append(payload)
            if raw:
                if beginning:
                    found.append((Head(*_HEAD.unpack(beginning)), b"".join(texts)))
                beginning, texts = b"", []
                found.append((None, raw))
        if beginning:
            found.append((Head(*_HEAD.unpack(beginning)), b"".join(texts)))
        return found

    def _cut(self, part: bytes, *, is_last: bool) -> tuple[bytes, bytes, bytes] | None:
        """What follows a token: how its record begins, its payload, and what stands behind it; None: more must come."""
        length = part[_SIZE - 2] | part[_SIZE - 1] << 8 if len(part) >= _SIZE else 0
        if part and (part[0] not in _KINDS or length > ROOM):
            return b"", b"", self._token + self._held_back(part, is_last=is_last)
        end = _SIZE + length
        if len(part) >= end:
            return part[: _SIZE - 2], part[_SIZE:end], self._held_back(part[end:], is_last=is_last)
        if is_last:
            self._rest = self._token + part
            return None
        # It was torn, or somebody has printed a token.
        if len(part) < _SIZE:
            return b"", b"", self._token + part
        return part[: _SIZE - 2], part[_SIZE:], b""

    def end(self) -> bytes:
        """What is left: nothing comes after it, so it was no record."""
        rest, self._rest = self._rest, b""
        return rest

    def _held_back(self, raw: bytes, *, is_last: bool) -> bytes:
        return self._hold_back(raw) if is_last and raw else raw

    def _hold_back(self, raw: bytes) -> bytes:
        """Keep what may be the beginning of a token."""
        for count in range(min(TOKEN_SIZE - 1, len(raw)), 0, -1):
            if raw.endswith(self._token[:count]):
                self._rest = raw[-count:]
                return raw[:-count]
        return raw
