"""What stands for whichever item runs, in the Context that the items of a lap share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiopool import inside
    from aiopool._worker.outbox import Run
    from aiopool._worker.work import BatchRun, Entry, JobRun

__all__ = ["Cursor"]


class Cursor:
    """What stands in the Context of items that run there one after another: whichever of them runs at the moment.

    It says so by the mark page, which costs an item nothing more, as long as there is a ``run``. Once it is given up
    (see :mod:`aiopool._worker.laps`), or its item waits, it is that item for good. If it was asked for one to keep, it
    holds itself, so that its reference count tells that: many times, as another thread may let go of it at the same
    moment. ``kept`` are all for which it was asked: one more than the item that it is left for, if a signal handler has
    asked for that just when it was no longer looked at the count.
    """

    __slots__ = ("_asked", "_entry", "batch", "kept", "low", "run")

    def __init__(self, batch: BatchRun, low: memoryview) -> None:
        self.batch = batch
        self.low = low
        self.run: Run | None = None
        self._entry: Entry | None = None
        self._asked: tuple[Cursor, ...] = ()
        self.kept: list[Entry] = []

    @property
    def code(self) -> int:
        """How the mark page names the item."""
        return self.now.code

    @property
    def position(self) -> int:
        """Where in the batch it is."""
        return self.now.position

    @property
    def item(self) -> int:
        """Where in the input it is."""
        return self.now.item

    @property
    def now(self) -> Entry:
        """The item that runs, for who does not keep it."""
        # In this order: another thread that asks may be late, and then the page tells of others, or of none.
        position, run, entry = min(max(0, self.low[0] - 1), self.batch.size - 1), self.run, self._entry
        if entry is None or (run is not None and entry.position != position):
            return self.batch.entry(position)
        return entry

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._entry is not None and self._entry.is_over

    @property
    def job(self) -> JobRun | None:
        """What it is one of; None when that has gone."""
        return self.batch.job()

    @property
    def outermost(self) -> Entry:
        """The item that runs, for who keeps it. For its own code, and what has a copy of its Context."""
        entry, run = self.now, self.run
        if run is not None and entry.position < run.end:
            # A signal handler asks between two items, and the next need not know of it.
            return self.batch.ended(entry.position)
        if entry is not self._entry:
            self._entry = entry
            self._asked += (self,) * 64
            self.kept.append(entry)
        return entry

    def keep(self) -> Entry:
        """The item waits: it stays that."""
        entry = self._entry = self.outermost
        self.run = None
        return entry

    def give_up(self) -> None:
        """The item has ended, and what is left of it here is its own: it stays that."""
        self._entry = self.now
        self.run = None
        self._asked = ()

    def end(self) -> None:
        """No item of it runs any more, and the page still tells of the last: a signal handler's copy is nobody's."""
        self._entry = self.batch.ended(self.position)
        self.run = None
        self._asked = ()

    def told(self) -> inside.CurrentItem:
        """Tell its own code which one it is."""
        return self.now.told()

    def report(self, fraction: float | None, text: str) -> None:
        """Take what its own code says of it. Any thread."""
        self.outermost.report(fraction, text)

    def hold(self) -> None:
        """Stop its clock, and hold its job's cancel. Any thread."""
        self.outermost.hold()

    def release(self) -> None:
        """Undo one :meth:`hold`."""
        self.outermost.release()
