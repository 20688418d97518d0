"""Views are refreshed often enough, and never so often that the pool feels it."""

from __future__ import annotations

import logging
import os
import threading
import time
from types import SimpleNamespace

import pytest

from aiopool._runtime import timeline, views
from aiopool._runtime.timeline import MOST_BLOCKS, Timeline
from aiopool._runtime.views import FAILED_EVERY, IDLE_EVERY, SHOW_AFTER, SHOW_EVERY, Views
from aiopool.telemetry import Block, CallsSnapshot, JobSnapshot, PoolSnapshot
from tests.pool.board import DEADLINE, Board, until

JOB = JobSnapshot(1, "job", "running", 10, 0, 0, 0, 0.0)


class World:
    """A clock and a loop that a test moves. The loop may be ``late``, and looking takes as long as views say."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.late = 0.0
        self.calls: list[tuple[float, object]] = []
        self.jobs: set[int] = set()
        self.counted: tuple[CallsSnapshot, ...] = ()
        self.pictures = 0
        self.picture_takes = 0.0
        self.worked = 0.0
        self.timeline = Timeline()
        self.views = Views(self, self.picture, self.timeline.since)

    def monotonic(self) -> float:
        """The clock."""
        return self.now

    perf_counter = monotonic

    def thread_time(self) -> float:
        """The processor time of the thread."""
        return self.worked

    def work(self, seconds: float) -> None:
        """Be at something for so long."""
        self.now += seconds
        self.worked += seconds

    def call_later(self, seconds, call):
        """The loop."""
        handle = SimpleNamespace(call=call, due=self.now + seconds)
        handle.cancel = lambda: self.calls.remove(handle)
        self.calls.append(handle)
        return handle

    def picture(self) -> PoolSnapshot:
        """A picture of the pool."""
        self.pictures += 1
        self.work(self.picture_takes)
        return PoolSnapshot("pool", "open", 1, (), (JOB,) * len(self.jobs), calls=self.counted)

    def begin(self, number: int, view) -> None:
        """A job begins."""
        self.jobs.add(number)
        self.views.begin(number, view)

    def end(self, number: int) -> None:
        """A job ends."""
        self.jobs.discard(number)
        self.views.end(number)

    def pass_time(self, seconds: float) -> None:
        """Let the loop turn for so long."""
        until_then = self.now + seconds
        while self.calls and min(self.calls, key=lambda each: each.due).due <= until_then:
            handle = min(self.calls, key=lambda each: each.due)
            self.calls.remove(handle)
            self.now = max(self.now, handle.due + self.late)
            handle.call()
        self.now = max(self.now, until_then)


class Screen:
    """A view that notes when it was refreshed, works as long as it is told to, and waits for something else."""

    def __init__(self, world: World, *, takes: float = 0.0, waits: float = 0.0) -> None:
        self.world = world
        self.takes = takes
        self.waits = waits
        self.is_open = True
        self.fails = False
        self.times: list[float] = []
        self.pictures: list[PoolSnapshot] = []
        self.blocks: list[Block] = []

    def refresh(self, pool, blocks) -> None:
        """Show."""
        self.times.append(self.world.now)
        self.world.work(self.takes)
        self.world.now += self.waits
        if self.fails:
            raise RuntimeError("no screen")
        self.pictures.append(pool)
        self.blocks.extend(blocks)

    @property
    def gaps(self) -> list[float]:
        """The seconds between refreshes."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


@pytest.fixture
def world(monkeypatch):
    """A world in which views live."""
    world = World()
    monkeypatch.setattr(views, "time", world)
    return world


def near(seconds: float):
    """About so long."""
    return pytest.approx(seconds, abs=1e-6)


# --- when ------------------------------------------------------------------------------------------------------------


def test_a_job_is_shown_half_a_second_in_and_ten_times_a_second_until_it_ends(world):
    """And nothing wakes after it."""
    screen = Screen(world)
    world.begin(1, screen)
    world.pass_time(2.05)
    assert screen.times[0] - 1000.0 == near(SHOW_AFTER)
    assert screen.gaps == [near(SHOW_EVERY)] * 15
    world.end(1)
    world.pass_time(5)
    assert len(screen.times) == 16
    assert not world.calls


def test_a_loop_that_is_late_does_not_make_up_for_it(world):
    """However late it comes round: there is nothing to be seen in what is over."""
    screen = Screen(world)
    world.begin(1, screen)
    for late in (0.0, 0.35, 0.01, 2.0, 0.0, 0.09):
        world.late = late
        world.pass_time(1.0)
    assert min(screen.gaps) >= SHOW_EVERY - 1e-9


def test_jobs_that_begin_while_another_is_shown_are_in_the_same_picture(world):
    """One view of many jobs is refreshed as often as one of one, and one picture is for all views."""
    screen, other = Screen(world), Screen(world)
    world.begin(1, screen)
    world.pass_time(0.75)
    for number in range(2, 50):
        world.begin(number, screen)
    world.begin(50, other)
    world.pass_time(1.0)
    assert min(screen.gaps) == near(SHOW_EVERY)
    assert len(screen.pictures[-1].jobs) == 50
    assert other.times[0] - 1000.75 >= SHOW_AFTER - 1e-9
    assert world.pictures <= len(screen.times) + 1
    for number in range(1, 50):
        world.end(number)
    count = len(screen.times)
    world.pass_time(1.0)
    assert len(screen.times) == count
    assert len(other.times) >= 10


def test_calls_one_after_another_are_one_thing_to_see(world):
    """A cell that awaits a thousand short submits shows that; one short call now and then shows nothing."""
    screen = Screen(world)
    for number in range(200):
        world.begin(number, screen)
        world.pass_time(0.02)
        world.end(number)
    assert len(screen.times) > 20
    assert min(screen.gaps) >= SHOW_EVERY - 1e-9
    count = len(screen.times)
    for number in range(200, 205):
        world.pass_time(5.0)
        world.begin(number, screen)
        world.pass_time(0.3)
        world.end(number)
    assert len(screen.times) == count


def test_who_watches_the_pool_looks_once_a_second_and_at_once_when_a_job_begins_or_ends(world):
    """Also at a job that nothing else shows."""
    screen = Screen(world)
    world.views.attach(screen)
    world.pass_time(5.05)
    assert screen.times[0] == 1000.0
    assert screen.gaps == [near(IDLE_EVERY)] * 5
    world.begin(1, None)
    world.pass_time(1.0)
    assert screen.gaps[5] < 0.11
    assert len(screen.gaps) >= 14
    assert screen.pictures[-1].jobs
    world.pass_time(0.01)
    world.end(1)
    world.pass_time(0.11)
    assert not screen.pictures[-1].jobs
    count = len(screen.times)
    world.pass_time(3.0)
    assert len(screen.times) == count + 3


def test_calls_that_are_only_counted_run_like_any_other_job(world):
    """Who shows the pool looks as often."""
    screen = Screen(world)
    world.counted = (CallsSnapshot("fetch", 20_000, 1.0),)
    world.views.attach(screen)
    world.pass_time(1.05)
    assert screen.gaps == [near(SHOW_EVERY)] * 10


def test_a_view_that_is_closed_is_not_looked_at_any_more(world):
    """And nothing wakes for it."""
    screen = Screen(world)
    world.views.attach(screen)
    world.pass_time(2.5)
    screen.is_open = False
    world.pass_time(5.0)
    assert len(screen.times) == 3
    assert not world.calls
    screen.is_open = True
    world.views.attach(screen)
    world.views.attach(screen)
    world.pass_time(0.0)
    assert len(screen.times) == 4


def test_the_end_of_the_pool_is_shown_to_who_watches_it_and_to_who_comes_after(world):
    """Once; nothing wakes after it, whatever is told."""
    screen, late = Screen(world), Screen(world)
    world.views.attach(screen)
    world.pass_time(0.5)
    world.views.close()
    assert len(screen.times) == 2
    world.views.attach(late)
    world.begin(1, Screen(world))
    world.end(1)
    assert len(late.times) == 1
    assert not world.calls


# --- what it may cost ------------------------------------------------------------------------------------------------


def test_a_slow_view_takes_a_tenth_of_the_time_and_others_are_as_quick_as_before(world):
    """One that takes 50 ms ten times a second would take half of it."""
    slow, quick = Screen(world, takes=0.05), Screen(world, takes=0.0005)
    world.views.attach(slow)
    world.begin(1, quick)
    world.pass_time(5.0)
    before = len(slow.times), len(quick.times)
    world.pass_time(20.0)
    assert (len(slow.times) - before[0]) * 0.05 <= 0.1 * 20.0 + 0.05
    assert len(slow.times) - before[0] >= 15
    assert len(quick.times) - before[1] >= 150
    slow.takes = 0.0
    world.pass_time(5.0)
    assert slow.gaps[-1] < 2 * SHOW_EVERY


def test_a_view_that_waits_is_refreshed_at_least_twice_a_second(world):
    """Perhaps for the processor, which a cell or another program has: then a bar that stands still tells nothing."""
    screen = Screen(world, waits=0.05)
    world.begin(1, screen)
    world.pass_time(2.0)
    count = len(screen.times)
    world.pass_time(10.0)
    assert 20 <= len(screen.times) - count <= 25
    screen.waits = 0.2
    world.pass_time(10.0)
    assert max(screen.gaps) < 0.65


def test_a_view_that_is_slow_once_is_not_made_to_wait(world):
    """It draws itself for the first time, or something else had the processor."""
    screen = Screen(world, takes=0.4)
    world.begin(1, screen)
    world.pass_time(0.6)
    screen.takes = 0.0
    world.pass_time(3.0)
    assert max(screen.gaps) < 0.6
    screen.takes = 0.4
    world.pass_time(0.2)
    screen.takes = 0.0
    world.pass_time(1.0)
    assert max(screen.gaps) < 0.6


def test_a_picture_that_takes_long_is_taken_more_seldom(world):
    """As of a pool with ten thousand maps."""
    world.picture_takes = 0.04
    screen = Screen(world)
    world.begin(1, screen)
    world.pass_time(20.0)
    assert 35 <= world.pictures <= 55


# --- what goes wrong -------------------------------------------------------------------------------------------------


def said(caplog) -> list[str]:
    """What was logged by us: somebody else's task may be collected at any time."""
    return [record.message for record in caplog.records if record.name == "aiopool"]


def test_an_error_in_one_view_is_said_once_and_does_not_stop_the_others(world, caplog):
    """It is tried again, not so often; when it had worked meanwhile, the next one is said, too."""
    broken, whole = Screen(world), Screen(world)
    broken.fails = True
    world.views.attach(broken)
    world.begin(1, whole)
    with caplog.at_level(logging.ERROR, "aiopool"):
        world.pass_time(10.0)
        assert said(caplog) == ["the display of a pool failed"]
        assert len(whole.times) > 90
        assert len(broken.gaps) >= 8
        assert min(broken.gaps) >= FAILED_EVERY - 1e-9
        broken.fails = False
        world.pass_time(5.0)
        assert broken.gaps[-1] == near(SHOW_EVERY)
        broken.fails = True
        world.pass_time(5.0)
        assert len(said(caplog)) == 2


def test_a_view_that_cannot_say_whether_it_is_open_harms_nobody(world, caplog):
    """It is no other than one that raises."""

    class Broken:
        @property
        def is_open(self) -> bool:
            raise RuntimeError

    whole = Screen(world)
    world.begin(1, Broken())
    world.begin(2, whole)
    with caplog.at_level(logging.ERROR, "aiopool"):
        world.pass_time(3.0)
    assert len(whole.times) > 20
    assert len(said(caplog)) == 1


def test_a_pool_of_which_no_picture_can_be_taken_says_so_once(world, caplog):
    """A bug of ours in the pictures must not end the pool."""
    screen, real = Screen(world), world.views._picture
    world.views._picture = lambda: 1 / 0
    world.begin(1, screen)
    with caplog.at_level(logging.ERROR, "aiopool"):
        world.pass_time(3.0)
    assert len(said(caplog)) == 1
    world.views._picture = real
    world.pass_time(1.0)
    assert len(screen.times) >= 9


# --- blocks ----------------------------------------------------------------------------------------------------------


def did(
    world: World, item: int, worker: int = 0, job: int = 1, *, seconds: float = 0.4, failed: int = 0, **more
) -> None:
    """A worker has ended an item, now."""
    options = {"of_call": False, "count": 1, **more}
    world.timeline.add(worker, job, f"job-{job}", item=item, seconds=seconds, failed=failed, now=world.now, **options)


def test_each_view_gets_the_blocks_since_its_own_last_refresh_and_a_late_one_all(world):
    """Whatever others got."""
    first, late = Screen(world), Screen(world)
    world.views.attach(first)
    world.begin(1, None)
    for item in range(10):
        world.pass_time(0.5)
        did(world, item)
    world.views.attach(late)
    for item in range(10, 14):
        world.pass_time(0.5)
        did(world, item)
    world.pass_time(1.0)
    for screen in (first, late):
        assert [block.item for block in screen.blocks] == list(range(14))
    assert (first.blocks[3].worker, first.blocks[3].job, first.blocks[3].name) == (0, 1, "job-1")
    assert first.blocks[3].end - first.blocks[3].start == near(0.4)


def test_a_view_that_raised_gets_its_blocks_the_next_time(world):
    """It has not shown them."""
    screen = Screen(world)
    world.views.attach(screen)
    screen.fails = True
    did(world, 0)
    world.pass_time(1.5)
    screen.fails = False
    world.pass_time(3.0)
    assert [block.item for block in screen.blocks] == [0]


def test_items_that_are_too_short_to_be_seen_are_one_block_with_their_neighbours(world):
    """Of the same worker and job, and with the failed ones counted."""
    for item in range(100):
        world.pass_time(0.001)
        did(world, item, seconds=0.001, failed=item % 10 == 0)
        did(world, item, worker=1, job=2, seconds=0.001, count=2)
    _, blocks = world.timeline.since(0, world.now + 1)
    assert sum(block.count for block in blocks if block.worker == 0) == 100
    assert sum(block.failed for block in blocks) == 10
    assert sum(block.count for block in blocks if block.worker == 1) == 200
    assert {(block.worker, block.job) for block in blocks} == {(0, 1), (1, 2)}
    assert len(blocks) <= 8
    world.pass_time(1.0)
    did(world, 100, seconds=0.001)
    assert len(world.timeline.since(len(blocks), world.now + 1)[1]) == 1


def test_calls_of_one_function_are_one_job_in_the_ring(world):
    """Each has a number of its own; a block has the first one's."""
    for number in range(20):
        world.pass_time(0.001)
        world.timeline.add(0, number, "fetch", of_call=True, item=0, count=1, failed=0, seconds=0.001, now=world.now)
    _, blocks = world.timeline.since(0, world.now + 1)
    assert [(block.job, block.count) for block in blocks] == [(0, 20)]


def test_the_ring_is_bounded_and_three_minutes_of_sixty_four_busy_workers_fit(world):
    """However short their items are."""
    for _ in range(200 * 20):
        world.now += 0.05
        for worker in range(0, 64, 9):
            did(world, 0, worker=worker, seconds=0.05, count=1000)
    did(world, 0, worker=63, seconds=0.05)
    _, blocks = world.timeline.since(0, world.now + 1)
    assert len(blocks) <= MOST_BLOCKS
    assert min(block.start for block in blocks) <= world.now - timeline.SECONDS * 0.9
    for number in range(2 * MOST_BLOCKS):
        did(world, 0, job=number)
    assert len(world.timeline._ring) <= MOST_BLOCKS
    assert len(world.timeline._open) <= timeline.MOST_OPEN


# --- with a real pool ------------------------------------------------------------------------------------------------


class Watching:
    """A view of a real pool."""

    is_open = True

    def __init__(self) -> None:
        self.pictures: list[PoolSnapshot] = []
        self.blocks: list[Block] = []
        self.threads: set[str] = set()

    def refresh(self, pool, blocks) -> None:
        """Look."""
        self.threads.add(threading.current_thread().name)
        self.pictures.append(pool)
        self.blocks.extend(blocks)


def test_a_dashboard_sees_workers_jobs_blocks_and_the_end(fresh, board: Board):
    """On the pool's thread; one that is attached when the pool has ended sees that it has."""
    pool, view, late = fresh(2, name="watched"), Watching(), Watching()
    pool._driver.watch(view)
    # Whoever comes up long before the other one might do all of it.
    pool._driver.warm_up(2)
    until(lambda: [info.state for info in pool.snapshot().workers] == ["idle"] * 2, what="both are up")

    def item(x: int) -> int:
        time.sleep(0.1)
        if x < 2:
            board.wait("seen")
        if x == 3:
            raise ValueError
        return x

    def at_work() -> set[int]:
        infos = [info for picture in list(view.pictures) if picture.jobs for info in picture.workers]
        return {info.item for info in infos if info.state == "busy" and info.label}

    job = pool.map(item, range(12), on_error="return", progress=False)
    until(lambda: at_work() >= {0, 1}, what="both are seen at work")
    board.mark("seen")
    job.result(DEADLINE)
    until(lambda: sum(block.count for block in view.blocks) == 12, what="all that was done is told")
    assert sum(block.failed for block in view.blocks) == 1
    assert {block.worker for block in view.blocks} == {0, 1}
    assert {block.name for block in view.blocks} == {"item"}
    assert all(0.09 < block.end - block.start < DEADLINE for block in view.blocks)
    assert any(picture.jobs for picture in view.pictures)
    busy = [info for picture in view.pictures for info in picture.workers if info.state == "busy"]
    assert {info.label for info in busy if info.item is not None} & {str(x) for x in range(12)}
    assert all(info.label in ("", str(info.item)) for info in busy)
    pool._driver.watch(late)
    until(lambda: late.pictures, what="the late one has looked")
    assert sum(block.count for block in late.blocks) == 12
    assert view.threads == {"aiopool-watched"}
    pool.close()
    pool.join(DEADLINE)
    assert view.pictures[-1].state == "closed"
    after = Watching()
    pool._driver.watch(after)
    until(lambda: after.pictures, what="who comes after the end is shown it")
    assert after.pictures[0].state == "closed"


def test_a_forked_child_shows_nothing_of_its_parents_pool(fresh, board: Board):
    """There is nobody who would refresh it, and the parent's goes on."""
    pool, view = fresh(1), Watching()
    pool._driver.watch(view)
    until(lambda: view.pictures, what="it is shown")
    count = len(view.pictures)
    child = os.fork()
    if not child:
        other = Watching()
        pool._driver.watch(other)
        time.sleep(0.3)
        board.mark("child", f"{len(view.pictures) <= count + 1} {len(other.pictures)}")
        os._exit(0)
    os.waitpid(child, 0)
    assert board.marks("child") == ["True 0"]
    until(lambda: len(view.pictures) > count + 1, what="the parent's view goes on")
