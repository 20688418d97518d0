"""Shared pages: big buffers are written once into a file without a name that the other process has open as well.

Two sides. Whoever **writes** has a :class:`Pages` over a file that only it writes to; whoever **reads** has a
:class:`Reader` over the same file, inherited, and maps what it was told of. The file has no name, so nothing is left of
it when its last holder has died, of whatever.

    pages = Pages(files.anonymous("arguments"))     # the writer
    grant = pages.write([buffer, ...])              # None: there is no room, let it travel as it always did
    grant.offset, grant.length                      # tell the other side of them; `lengths` tell the buffers apart
    del grant                                       # the range is used again as soon as nobody holds the grant

    reader = Reader(fd, when_over)                  # the other side
    lease = reader.claim(offset, length)            # FrameError where the file has no such range
    buffers = lease.buffers([length, ...])          # memoryviews of a mapping, private and copied on write
    buffers = lease.buffers([...], shared=True)     # or read-only, one memory for all who map it
    del lease, buffers                              # when_over(offset) is called once nothing of it is in use any more

Both are counted by references alone: a range belongs to whoever holds its grant, its lease, or anything that was made
of its buffers, and returns of itself when the last of that goes, whatever has ended it. ``when_over`` is called by
whoever lets go, which may be the garbage collector in any thread at any line: it must not take a lock or run long.

What one peer was told of is kept for it in a :class:`Lent` until it says that it is over with it, or dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from aiopool._payload import forks, system
from aiopool._payload.files import identity
from aiopool._payload.ranges import PAGE, Ranges, whole_pages
from aiopool.errors import FrameError

if TYPE_CHECKING:
    from aiopool._payload.parcels import Packed

__all__ = ["Grant", "Lease", "Lent", "Pages", "Reader", "laid_out"]

ALIGNED = 64
"""Buffers begin at multiples of this within their range: a line of the cache, and what vector instructions want."""

WARM_BYTES = 256 << 20
"""How much memory that nobody uses a file keeps for what is written next."""

KEPT_BYTES = 256 << 20
MOST_KEPT = 64
"""How much that nobody looks at stays mapped for what comes next."""

MOST_MAPPED = 30_000
"""Half of what Linux lets a process have. What is beyond is copied: its threads and its memory need mappings, too."""

FIRST_SIZE = 64 << 20


def laid_out(lengths: Iterable[int]) -> tuple[list[int], int]:
    """Where buffers of these lengths stand in one range, and how long that is."""
    places: list[int] = []
    end = 0
    for length in lengths:
        places.append(end)
        end += -(-length // ALIGNED) * ALIGNED
    return places, end


class Grant:
    """A range to write to. It is in use as long as anybody holds this; ``written``: there is memory behind it."""

    __slots__ = ("__weakref__", "_pages", "length", "offset", "written")

    def __init__(self, pages: Pages, offset: int, length: int, *, written: bool) -> None:
        self.offset = offset
        self.length = length
        self.written = written
        self._pages = pages

    def __del__(self) -> None:
        self._pages.give(self.offset, warm=self.written)


class Pages:
    """The writer of one file, whose descriptor stays its owner's. Any thread may write and let go.

    ``most``: how many bytes may be in use at once, None for as many as half the memory that there is.
    """

    def __init__(self, fd: int, *, warm: int = WARM_BYTES, most: int | None = None) -> None:
        self.fd = fd
        self._warm = warm
        self._most = system.memory_bytes() // 2 if most is None else most
        self._ranges = Ranges()
        self._given: deque[tuple[int, bool]] = deque()
        # Held for a moment; those who let go pass by if somebody has it: the garbage collector may come at any line.
        self._lock = threading.Lock()
        # Held while something is copied. Entered again by an object whose end writes.
        self._copying = threading.RLock()
        self._identity = identity(fd)
        self._size = os.fstat(fd).st_size
        # Where it is mapped and how far: the last of these. A Stop may come between any two lines of whoever writes.
        self._mappings: list[tuple[int | None, int]] = []
        self._closed = False
        _all.add(self)

    # --- writing ---------------------------------------------------------------------------------------------------

    def write(self, buffers: Sequence[memoryview]) -> Grant | None:
        """Copy flat buffers of bytes into one range, laid out as :func:`laid_out` says; None where there is no room."""
        places, length = laid_out(map(len, buffers))
        with self._copying:
            grant = self._take(length)
            if grant is None:
                return None
            try:
                self._must_be_ours()
                self._reach(grant.offset + whole_pages(length))
                if not grant.written:
                    self._warm_up(grant.offset, length)
                    grant.written = True
                for place, buffer in zip(places, buffers, strict=True):
                    self._copy(grant.offset + place, buffer)
            except OSError:
                # No memory, no room on the disk, a limit of this user's. What was found of it is not kept.
                if not grant.written:
                    system.punch(self.fd, self._identity, grant.offset, whole_pages(length))
                return None
            return grant

    def _take(self, length: int) -> Grant | None:
        with self._lock:
            self._take_back()
            if self._closed or self._ranges.used_bytes + length > self._most:
                return None
            offset, is_warm = self._ranges.take(length)
            return Grant(self, offset, length, written=is_warm)

    def _reach(self, end: int) -> None:
        """Make file and mapping so long. What is mapped stays mapped: the system need not find its pages again."""
        if end > self._size:
            size = max(end, 2 * self._size, FIRST_SIZE, os.fstat(self.fd).st_size)  # It cannot be cut off.
            os.ftruncate(self.fd, size)
            self._size = size
        address, mapped = self._mapping()
        if end > mapped:
            if address and system.mremap is not None:
                asked: Any = map(system.mremap, (address,), (mapped,), (self._size,), (system.MAY_MOVE,))
            else:
                self._unmap()
                asked = map(system.mmap, (None,), (self._size,), (system.WRITE,), (mmap.MAP_SHARED,), (self.fd,), (0,))
            # One step for the interpreter: what was there is gone if and only if what is there now is known.
            self._mappings.extend(zip(asked, (self._size,), strict=True))
            if self._mapping()[1] < end:
                raise OSError(ctypes.get_errno(), "shared pages cannot be mapped")
            del self._mappings[:-1]

    def _mapping(self) -> tuple[int, int]:
        """Where it is mapped, and how far."""
        while self._mappings:
            address, size = self._mappings[-1]
            if address not in {None, system.FAILED}:
                return address, size
            self._mappings.pop()
        return 0, 0

    def _warm_up(self, offset: int, length: int) -> None:
        """Have the system find memory now, where it can say that there is none: writing would be ended by a signal."""
        if sys.platform == "linux" and not system.madvise(
            self._mapping()[0] + offset, whole_pages(length), system.POPULATE_WRITE
        ):
            return
        zeros = bytes(min(length, 1 << 20))
        for at in range(offset, offset + length, len(zeros)):
            os.pwrite(self.fd, zeros[: offset + length - at], at)

    def _copy(self, offset: int, buffer: memoryview) -> None:
        """Copy without the interpreter's lock, which others want meanwhile."""
        if len(buffer):
            with system.address_of(buffer) as source:
                ctypes.memmove(self._mapping()[0] + offset, source, len(buffer))

    def _must_be_ours(self) -> None:
        """An item's code may have closed what it finds open, and another file may have the number now."""
        if identity(self.fd) != self._identity:
            raise OSError("the file of the shared pages was closed")

    # --- letting go ------------------------------------------------------------------------------------------------

    def give(self, offset: int, *, warm: bool) -> None:
        """Nobody has this range any more. Any thread, at any line."""
        self._given.append((offset, warm))
        # Whoever holds the lock may have looked before this was put down; so look once more when it is free. Not
        # ``acquire`` where nobody has it: a Stop could come before the next line, and nobody would release it.
        while self._given and not self._closed and not self._lock.locked():
            with self._lock:
                self._take_back()

    def _take_back(self) -> None:
        for _ in range(len(self._given)):
            offset, warm = self._given.popleft()
            self._ranges.give(offset, warm=warm)

    def tidy(self, most: int | None = None) -> None:
        """Give memory that nobody uses back to the system, all but so much. It may take a while."""
        with self._lock:
            if self._closed:
                return
            self._take_back()
            surplus = self._ranges.surplus(self._warm if most is None else most)
        for begin, end in surplus:
            # Where that cannot be done it is found warm when it is used again.
            system.punch(self.fd, self._identity, begin, end - begin)
            with self._lock:
                self._ranges.cooled((begin, end))

    @property
    def used_bytes(self) -> int:
        """How much is in use."""
        with self._lock:
            self._take_back()
            return self._ranges.used_bytes

    @property
    def warm_bytes(self) -> int:
        """How much memory is kept for what is written next."""
        with self._lock:
            self._take_back()
            return self._ranges.warm_bytes

    def close(self) -> None:
        """Write nothing more. What others have mapped stays until they let go of it."""
        with self._copying, self._lock:
            if not self._closed:
                self._closed = True
                self._unmap()

    def _unmap(self) -> None:
        address, mapped = self._mapping()
        self._mappings.clear()
        if address:
            system.munmap(address, mapped)

    def disown(self) -> None:
        """This is a forked child: the file is the parent's, and nothing that ends here may change it."""
        self._closed = True
        self._lock = threading.Lock()
        self._copying = threading.RLock()


# --- reading ---------------------------------------------------------------------------------------------------------


class Lease:
    """A range of another process's that may be looked at as long as anything holds this."""

    __slots__ = ("__weakref__", "_forks", "_mapped", "_reader", "length", "offset")

    def __init__(self, reader: Reader, offset: int, length: int) -> None:
        self.offset = offset
        self.length = length
        self._reader = reader
        self._mapped = False
        self._forks = forks.count()

    def __del__(self) -> None:
        self._reader.over(self.offset, self.length, self._forks if self._mapped else None)

    def buffers(self, lengths: Sequence[int], *, shared: bool = False) -> list[memoryview]:
        """What stands there, in place: writable and private, or ``shared`` with all who map it and read-only.

        Raises FrameError where buffers of these lengths do not fit in, OSError where it cannot be mapped at all.
        """
        places, length = laid_out(lengths)
        if min(lengths, default=0) < 0 or length > self.length:
            raise FrameError(f"buffers of {length} bytes in shared pages of {self.length}")
        self._reader.must_be_ours()
        view = self._map(shared=shared)
        return [view[place : place + size] for place, size in zip(places, lengths, strict=True)]

    def _map(self, *, shared: bool) -> memoryview:
        size = whole_pages(self.length)
        address = None if shared else self._reader.mapped(self.offset, size)
        if address is None:
            protection, kind = (mmap.PROT_READ, mmap.MAP_SHARED) if shared else (system.WRITE, mmap.MAP_PRIVATE)
            # Not mmap.mmap, which has a descriptor of its own for each: a process may have a thousand of them, no more.
            if forks.mappings() < MOST_MAPPED:
                address = system.mmap(None, size, protection, kind, self._reader.fd, self.offset)
            if address in {None, system.FAILED}:
                # More mappings than a process may have, or no memory for what it could write there.
                return self._copied(shared=shared)
            forks.mapped()
        self._mapped = True
        mapping = (ctypes.c_char * size).from_address(address)
        weakref.finalize(mapping, self._reader.unmap, address, size, self, keep=not shared).atexit = False
        view = memoryview(mapping).cast("B")
        return view.toreadonly() if shared else view

    def _copied(self, *, shared: bool) -> memoryview:
        data = bytearray(self.length)
        view = memoryview(data)
        at = 0
        while at < len(data) and (read := os.preadv(self._reader.fd, [view[at:]], self.offset + at)):
            at += read
        return view.toreadonly() if shared else view


class Reader:
    """The other side of a file of shared pages, whose descriptor it owns. Any thread may let go.

    ``when_over`` is called with the offset of a range that is not in use here any more, unless ``writer_is_gone``: then
    its memory is given back to the system instead, since nobody writes there again.

    Who forks while it has something mapped shares that with the child. Such a range is not said to be over before the
    child has ended, too; that is looked at when the next range is claimed or let go of.

    A mapping in which nobody has written is kept for a while: what comes next mostly stands at the same place, and the
    system need not find its pages again, which takes longer than to write them.
    """

    def __init__(self, fd: int, when_over: Callable[[int], object], later: Callable[[], object] | None = None) -> None:
        """With ``later``, which is called like ``when_over``, another thread sees to mappings, by :meth:`settle`."""
        self.fd = fd
        self.bytes = 0
        self._when_over = when_over
        self._later = later
        self._closing: deque[tuple[int, int, Lease]] = deque()
        self._identity = identity(fd)
        self._size = 0
        self._claimed: dict[int, tuple[int, int]] = {}
        self._withheld: deque[tuple[int, int, int]] = deque()
        # By where they stand. Each step is one that no other thread, and no garbage collector, comes in between of.
        self._kept: dict[tuple[int, int], int] = {}
        self._gone = False
        self._foreign = False
        _all.add(self)

    def __del__(self) -> None:
        # Not begun, or an item's code has closed it.
        with contextlib.suppress(OSError, AttributeError):
            self._unmap_kept(0)
            self.must_be_ours()
            os.close(self.fd)

    def claim(self, offset: int, length: int) -> Lease:
        """Take a range that the writer has told of; FrameError where the file has none such."""
        size = whole_pages(length)
        if offset < 0 or offset % PAGE or length <= 0:
            raise FrameError(f"shared pages of {length} bytes from {offset}, where none can be")
        if offset + size > self._size:
            self._size = os.fstat(self.fd).st_size
            if offset + size > self._size:
                raise FrameError(f"shared pages of {length} bytes from {offset} in a file of {self._size}")
        self._look_at_withheld()
        self._claimed[offset] = self._claimed.get(offset, (0, 0))[0] + 1, size
        self.bytes += length
        return Lease(self, offset, length)

    def mapped(self, offset: int, size: int) -> int | None:
        """Where this is mapped already."""
        return self._kept.pop((offset, size), None)

    def unmap(self, address: int, size: int, lease: Lease, *, keep: bool) -> None:
        """Nobody looks at this mapping any more; the lease lasts until it is settled."""
        if self._later is not None and keep and not self._foreign:
            self._closing.append((address, size, lease))
            self._later()
        else:
            self._settle(address, size, lease, keep=keep)

    def settle(self) -> None:
        """See to the mappings that nobody looks at any more."""
        while self._closing:
            self._settle(*self._closing.popleft(), keep=True)

    def _settle(self, address: int, size: int, lease: Lease, *, keep: bool) -> None:
        if not keep or self._gone or self._foreign or size > KEPT_BYTES or not system.is_clean(address, size):
            _unmap(address, size)
            return
        if (other := self._kept.pop((lease.offset, size), None)) is not None:
            _unmap(other, size)
        self._kept[lease.offset, size] = address
        self._unmap_kept(KEPT_BYTES)

    def _unmap_kept(self, most: int) -> None:
        """Of those that are kept let go of the oldest, until these are so many bytes at most, and not many."""
        kept = list(self._kept)
        total = sum([size for _, size in kept])
        for at, key in enumerate(kept):
            if total <= most and len(kept) - at <= MOST_KEPT:
                return
            total -= key[1]
            if (address := self._kept.pop(key, None)) is not None:
                _unmap(address, key[1])

    def over(self, offset: int, length: int, since: int | None) -> None:
        """Called by what was let go; children have a share in it that were forked ``since`` so many forks."""
        if self._foreign:
            return
        self.bytes -= length
        self._look_at_withheld()
        if since is not None and forks.are_looking(since):
            self._withheld.append((offset, length, since))
        else:
            self._tell(offset, length)

    def _look_at_withheld(self) -> None:
        for _ in range(len(self._withheld)):
            try:
                offset, length, since = self._withheld.popleft()
            except IndexError:
                return  # Another thread looks as well.
            if forks.are_looking(since):
                self._withheld.append((offset, length, since))
            else:
                self._tell(offset, length)

    def _tell(self, offset: int, length: int) -> None:
        left = self._claimed.pop(offset)[0] - 1
        if left:
            self._claimed[offset] = left, whole_pages(length)
        if not self._gone:
            self._when_over(offset)
        elif not left:
            system.punch(self.fd, self._identity, offset, whole_pages(length))

    def writer_is_gone(self) -> None:
        """The writer has died: the memory of all but what is in use here is given back, of the rest when it is over."""
        self._gone = True
        self._unmap_kept(0)
        begin = 0
        claimed = sorted((offset, size) for offset, (_, size) in list(self._claimed.items()))
        for offset, size in [*claimed, (os.fstat(self.fd).st_size, 0)]:
            if offset > begin:
                system.punch(self.fd, self._identity, begin, offset - begin)
            begin = offset + size

    def must_be_ours(self) -> None:
        """Raises OSError where an item's code has closed what it found open; another file may have the number now."""
        if identity(self.fd) != self._identity:
            raise OSError("the file of the shared pages was closed by the code of an item")

    def disown(self) -> None:
        """This is a forked child: the parent says when it has let go of its own share."""
        self._foreign = True


class Lent:
    """What one peer has been told of and has not let go of yet."""

    def __init__(self) -> None:
        self._out: dict[int, tuple[Grant, int]] = {}

    def lend(self, packed: Sequence[tuple[int, Packed]]) -> tuple[list[int], list[int], list[int]]:
        """Note that it is told of these, some perhaps once more: their places, offsets and lengths."""
        grants = [blob.grant for _, blob in packed]
        for grant in grants:
            self.note(grant)
        return [place for place, _ in packed], [grant.offset for grant in grants], [grant.length for grant in grants]

    def note(self, grant: Grant) -> None:
        """It is told of this."""
        self._out[grant.offset] = grant, self._out.get(grant.offset, (grant, 0))[1] + 1

    def back(self, offsets: Iterable[int]) -> None:
        """It has let go of these; FrameError where it never had one."""
        for offset in offsets:
            if offset not in self._out:
                raise FrameError(f"shared pages from {offset} came back, which were not lent")
            grant, times = self._out.pop(offset)
            if times > 1:
                self._out[offset] = grant, times - 1

    def clear(self) -> None:
        """It is dead, and has let go of everything."""
        self._out.clear()

    def __len__(self) -> int:
        return len(self._out)


def _unmap(address: int, size: int) -> None:
    system.munmap(address, size)
    forks.unmapped()


_all: weakref.WeakSet[Pages | Reader] = weakref.WeakSet()


def _disown() -> None:
    for each in list(_all):
        each.disown()


os.register_at_fork(after_in_child=_disown)
