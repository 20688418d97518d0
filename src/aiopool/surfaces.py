"""The hooks through which jobs and pools are shown while they run, and through which what workers print comes out.

Views pull: they are handed a snapshot ten times a second at most, and the hot path pays nothing for being watched.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiopool.errors import AiopoolError
from aiopool.frozen import frozen
from aiopool.options import Progress
from aiopool.telemetry import Block, JobSnapshot, PoolSnapshot

__all__ = [
    "Displayed",
    "News",
    "Printed",
    "Progress",
    "Surface",
    "SurfaceFactory",
    "View",
    "new_dashboard",
    "new_surface",
    "use_dashboards",
    "use_surfaces",
]


@frozen
class Printed:
    """A line that a worker printed, without its end. ``item`` None: C code, a program, or what runs beside items."""

    worker: int
    item: int | None
    text: str
    error: bool = False
    """Whether it was standard error."""

    name: str = ""
    """Who says it, where that is none of these: ``aiopool``, of lines that it does not show."""

    def label(self, call: str = "") -> str:
        """Who printed it: ``item 7``, ``worker 2``; ``call`` stands for the item where a function was submitted."""
        return self.name or (f"worker {self.worker}" if self.item is None else call or f"item {self.item}")


@frozen
class Displayed:
    """What an item has displayed: a picture, a table; a value for each of its MIME types.

    ``display_id`` is a name under which it may be replaced, empty where it has none; ``update``: it stands in the place
    of what was displayed under that name.
    """

    worker: int
    item: int | None
    data: Mapping[str, Any]
    metadata: Mapping[str, Any]
    display_id: str = ""
    update: bool = False


@dataclass(slots=True, eq=False)
class News:
    """What a job that has failed has to say, in case that nobody asks it.

    ``text`` is a sentence. ``heard`` is set when somebody asks. ``of_call``: the job is a single call. ``holder`` lives
    as long as somebody can ask; None: enough time has passed.
    """

    heard: bool = False
    name: str = ""
    text: str = ""
    of_call: bool = False
    holder: weakref.ref[object] | None = None


class View(Protocol):
    """Shows a pool and jobs of it. Called on the pool's own thread: be quick, and wait for nothing."""

    @property
    def is_open(self) -> bool:
        """Whether it wants to be refreshed any more. One that shows jobs is asked only while one of them runs."""

    def refresh(self, pool: PoolSnapshot, blocks: Sequence[Block]) -> None:
        """Show how things are; ``blocks`` are those that have come since the last time.

        For a job the first time is half a second after its begin. Then it is ten times a second at most.
        """


class Surface(Protocol):
    """Where one job shows itself. Every method is called on the pool's own thread, but for ``hold``.

    ``view`` shows how far the job is, None: nothing does; many jobs may have the same. ``owner`` is what the job
    belongs to, None where that is not known: what starts again under the same name ends its jobs first.
    """

    @property
    def view(self) -> View | None:
        """What shows how far it is."""

    @property
    def owner(self) -> str | None:
        """What it belongs to."""

    def hold(self, job: Any) -> None:
        """Take the :class:`Job`, for buttons; in the thread that starts it. It may have begun, and even ended."""

    def begin(self, number: int) -> None:
        """The job begins, with this number among those of its pool."""

    def close(self, snapshot: JobSnapshot) -> None:
        """The job has ended: show how, and leave one line. Called once, also for a job that was never shown."""

    def amend(self, snapshot: JobSnapshot) -> None:
        """The same end, with labels of failed items that were missing: they are the user's code, and take a moment.

        Called once at most, after :meth:`close`, of a surface with a view.
        """

    def write(self, lines: Sequence[Printed]) -> None:
        """Pass on lines that workers printed while they worked for the job."""

    def display(self, shown: Displayed) -> None:
        """Pass on what an item has displayed."""

    def complain(self, news: News) -> None:
        """Say that the job has failed, unless somebody asks meanwhile; called some time after its end."""


SurfaceFactory = Callable[[str, Progress, bool, bool], Surface | None]
_factories: list[SurfaceFactory] = []


def use_surfaces(factory: SurfaceFactory) -> None:
    """Register who makes surfaces: ``factory(name, progress, of_call, as_one)``, called where a job is started.

    ``as_one``: its user knows no items, and what these print is said in its name. The last one wins. A factory that
    returns None leaves the job to the one registered before it.
    """
    _factories.append(factory)


def new_surface(name: str, *, progress: Progress, of_call: bool, as_one: bool) -> Surface | None:
    """Make the surface of a job that is being started in this very thread and cell."""
    for factory in reversed(_factories):
        if (surface := factory(name, progress, of_call, as_one)) is not None:
            return surface
    return None


DashboardFactory = Callable[[Any, Any], Any]
_dashboards: list[DashboardFactory] = []


def use_dashboards(factory: DashboardFactory) -> None:
    """Register who makes dashboards: ``factory(pool, driver)``, called where ``pool.dashboard()`` is. The last wins."""
    _dashboards.append(factory)


def new_dashboard(pool: Any, driver: Any) -> Any:
    """Make the dashboard of a pool, or get the one that there is."""
    if not _dashboards:
        raise AiopoolError(
            "pool.dashboard() is drawn by a notebook, and no Jupyter kernel runs in this process: "
            "print(pool.snapshot()) says how the pool is"
        )
    return _dashboards[-1](pool, driver)
