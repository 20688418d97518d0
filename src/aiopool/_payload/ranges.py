"""Which parts of a file are in use: an allocator that knows offsets and lengths, and nothing of files.

A file of shared pages is sparse and has no end that would cost anything, so a range is never squeezed in between: what
matters is that memory which the system has given already is used again before more is asked for. A part of the file is

- **used**: somebody has what stands there;
- **warm**: nobody has, but the memory behind it is still ours, and writing there costs a copy and nothing else;
- **cold**: there is no memory behind it: nothing was ever written there, or it was given back to the system.
"""

from __future__ import annotations

from bisect import bisect_left, insort

__all__ = ["PAGE", "Ranges", "whole_pages"]

PAGE = 1 << 16
"""Ranges begin and end at multiples of this: of every size that a page has on the systems we know."""

Part = tuple[int, int]  # where it begins and where it ends


def whole_pages(length: int) -> int:
    """How many bytes of a file something of this length takes."""
    return max(1, -(-length // PAGE)) * PAGE


class Ranges:
    """The parts of one file. Every byte below ``end`` is in a part that is used, warm, cold, or taken to be cooled."""

    def __init__(self) -> None:
        self.end = 0
        self.used_bytes = 0
        self.warm_bytes = 0
        self._used: dict[int, int] = {}
        self._warm: list[Part] = []
        self._cold: list[Part] = []

    def take(self, length: int) -> tuple[int, bool]:
        """Where something of this length may be written, and whether all of that is warm."""
        size = whole_pages(length)
        begin = _cut_first(self._warm, size)
        is_warm = begin is not None
        if begin is None:
            begin = _cut_first(self._cold, size)
        if begin is None:
            # Behind the rest, from where it is cold already.
            begin = self._cold.pop()[0] if self._cold and self._cold[-1][1] == self.end else self.end
            self.end = begin + size
        self._used[begin] = size
        self.used_bytes += size
        if is_warm:
            self.warm_bytes -= size
        return begin, is_warm

    def give(self, offset: int, *, warm: bool = True) -> None:
        """Nobody has this range any more; KeyError where it is none. It is ``warm`` if anything was written there."""
        size = self._used.pop(offset)
        self.used_bytes -= size
        if warm:
            self.warm_bytes += size
        _insert(self._warm if warm else self._cold, (offset, offset + size))

    def surplus(self, most: int) -> list[Part]:
        """Take away what is warm beyond so many bytes, from the end; to be ``cooled`` when its memory is given back."""
        taken: list[Part] = []
        while self.warm_bytes > most:
            begin, end = self._warm.pop()
            # The multiple of a page above: what is left over is at least what may be left.
            keep = min(end - begin, max(0, most - (self.warm_bytes - (end - begin))) // PAGE * PAGE)
            if keep:
                self._warm.append((begin, begin + keep))
            self.warm_bytes -= end - begin - keep
            taken.append((begin + keep, end))
        return taken

    def cooled(self, part: Part) -> None:
        """The memory of this part, which was surplus, was given back."""
        _insert(self._cold, part)

    def used(self) -> dict[int, int]:
        """Offsets and sizes of all that is in use."""
        return dict(self._used)

    def parts(self) -> tuple[list[Part], list[Part]]:
        """What is warm and what is cold, for tests."""
        return list(self._warm), list(self._cold)


def _cut_first(parts: list[Part], size: int) -> int | None:
    """Take so much from the beginning of the first part that has it."""
    for at, (begin, end) in enumerate(parts):
        if end - begin >= size:
            if end - begin == size:
                del parts[at]
            else:
                parts[at] = (begin + size, end)
            return begin
    return None


def _insert(parts: list[Part], part: Part) -> None:
    """Put a part among its likes, in order, as one with those that it touches."""
    begin, end = part
    at = bisect_left(parts, part)
    if at < len(parts) and parts[at][0] == end:
        end = parts.pop(at)[1]
    if at and parts[at - 1][1] == begin:
        begin = parts.pop(at - 1)[0]
    insort(parts, (begin, end))
