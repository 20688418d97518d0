"""One worker of a pool, as its user holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiopool import reprs
from aiopool.stacks import Stacks
from aiopool.telemetry import WorkerInfo, WorkerState

if TYPE_CHECKING:
    from aiopool.job import Handle
    from aiopool.pool import Pool

__all__ = ["Worker"]


class Worker:
    """One worker of a pool, as its user sees it: ``index``, ``pid``, ``state``, ``memory``; the rest is in ``info``."""

    def __init__(self, pool: Pool, info: WorkerInfo) -> None:
        self._pool = pool
        self._info = info

    @property
    def index(self) -> int:
        """Its place in the pool."""
        return self._info.index

    @property
    def pid(self) -> int | None:
        """The id of its process, also when that is gone; None while it is about to be started."""
        return self._info.pid or self.info.pid

    @property
    def state(self) -> WorkerState:
        """What it does now: see :class:`~aiopool.telemetry.WorkerInfo`."""
        return self.info.state

    @property
    def memory(self) -> int | None:
        """The bytes that its process had when it was last looked at; None where that is not known, or it is gone."""
        return self.info.memory

    @property
    def info(self) -> WorkerInfo:
        """What it does now; state ``lost`` once its process is gone."""
        infos, last = self._pool.infos(), self._info
        if last.pid is None:
            # It was about to start when it was asked for: whoever has its place by now is it.
            last = self._info = next((info for info in infos if info.index == last.index), last)
        lost = WorkerInfo(last.index, last.pid, "lost", 0, last.done)
        return next((info for info in infos if info.pid == last.pid), lost)

    def stack(self) -> Stacks:
        """Where everything in this worker stands at this moment, as :meth:`Job.stacks` tells it of a job.

        ::

            >>> pool.workers[0].stack()
            worker 0 (pid 4242): 2 stacks
            item 3 of crunch, for 3:07, runs:
                Cell In[2], line 5, in crunch
                  return 3 ** 10**8
            Thread-2 (watch):
                Cell In[2], line 9, in watch
                  time.sleep(1)

        Items of all jobs first, then threads that are inside of none, such as one that an item has started; the
        worker's own are left out. Of a worker that is gone it says so.
        """
        __tracebackhide__ = True
        return self._pool.stack_of(self._info)

    def restart(self, *, now: bool = False) -> Handle[None]:
        """Replace this worker: a new one starts beside, as soon as there is work for it, this one ends its items first.

        With ``now`` it is killed, and what it ran runs again. The handle ends when it is gone; at once if it is, or has
        not started yet. Raises :class:`~aiopool.errors.PoolClosed` where the pool is.

        ::

            await pool.workers[0].restart()
        """
        __tracebackhide__ = True
        return self._pool.restart_of(self._info, now=now)

    def __repr__(self) -> str:
        return repr(self.info)

    def _repr_html_(self) -> str:
        return reprs.worker_html([self.info])
