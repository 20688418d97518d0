"""One kernel for all tests that leave it as they found it, a fresh one for those that do not, and the figures measured.

The kernels of a session are few, because each costs most of a second. A kernel that a test broke is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.harness import Kernel, Signs

_PUT_IN_ORDER = """
def _put_in_order():
    for job in aiopool.jobs():
        job.cancel()
    # What was cancelled may take a moment, and where that is a second there may be one worker more.
    pool, end = aiopool.session._session.pool, time.monotonic() + 20
    while pool is not None and not pool.closed and time.monotonic() < end:
        states = [worker.state for worker in pool.workers]
        if len(states) <= pool.size and {*states} <= {"idle", "starting"}:
            break
        time.sleep(0.005)
_put_in_order()
"""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker of the tests known that also run on the oldest ipykernel that is supported."""
    config.addinivalue_line("markers", "core: of the kernel tests, those that also run on the oldest ipykernel")


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, float], None]:
    """Note seconds that were measured, for the summary: a limit that holds tells nothing about how near it is."""

    def note(name: str, seconds: float) -> None:
        request.node.user_properties.append((name, f"{1000 * seconds:.0f} ms"))

    return note


class Kernels:
    """Starts kernels and ends them."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._shared: Kernel | None = None

    def fresh(self, folder: Path | None = None) -> Kernel:
        """A new one, started in that folder."""
        return Kernel(folder or self._folders.mktemp("kernel"))

    def shared(self) -> Kernel:
        """The one for all; another one if the last was broken."""
        if self._shared is None or not self._shared.is_alive:
            self.close()
            self._shared = self.fresh()
        return self._shared

    def close(self) -> None:
        """End the shared one."""
        if self._shared is not None:
            self._shared.close()
            self._shared = None


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    """All kernels of this session."""
    started = Kernels(tmp_path_factory)
    yield started
    started.close()


@pytest.fixture
def kernel(kernels: Kernels) -> Iterator[Kernel]:
    """The shared kernel, with nothing running. Its first cell has imported what a notebook usually has."""
    shared = kernels.shared()
    yield shared
    if shared.is_alive:
        shared.run(_PUT_IN_ORDER)


@pytest.fixture
def own_kernel(kernels: Kernels) -> Iterator[Kernel]:
    """A kernel for one test alone, which may do to it what it likes."""
    fresh = kernels.fresh()
    yield fresh
    fresh.close()


@pytest.fixture
def signs(kernel: Kernel, tmp_path: Path) -> Signs:
    """``sign(name)`` for the items of the shared kernel."""
    return Signs(kernel, tmp_path / "signs")
