"""The dashboard of a pool: a widget that moves by itself, and what its buttons do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.kernel.harness import HELD, Cell, Kernel, Signs, Widget

pytestmark = pytest.mark.kernel

_numbers = itertools.count(1000)


def board_of(cell: Cell, kernel: Kernel) -> Widget:
    """The dashboard that is the value of a cell."""
    (bundle,) = [message.content["data"] for message in cell.messages if message.kind == "execute_result"]
    return kernel.widget(bundle["application/vnd.jupyter.widget-view+json"]["model_id"])


def press(kernel: Kernel, board: Widget, action: str, **more: object) -> None:
    """Click, and wait until that was answered."""
    number = next(_numbers)
    kernel.click(board.name, {"action": action, "click": number, **more})
    board.wait_for(lambda state: state["ack"] >= number, f"the answer to {action}")


def quiet(kernel: Kernel, board: Widget) -> int:
    """Wait until the state that was under way has come; how many there are by then."""
    # It is sent by the pool's own thread, which answers this when that is done.
    kernel.run("aiopool.get_pool().snapshot()")
    return len(board.states)


def with_job(name: str, **wanted: object) -> Callable[[dict[str, Any]], bool]:
    """Whether a state has a job of that name which is so."""
    return lambda state: any(
        job["name"] == name and all(job[key] == value for key, value in wanted.items()) for job in state["jobs"]
    )


@pytest.mark.core
def test_the_dashboard_moves_while_a_cell_blocks(kernel: Kernel, signs: Signs) -> None:
    """It is refreshed from the pool's own thread: jobs, workers and blocks come while the kernel does nothing else."""
    kernel.run(HELD)
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    assert board.state["kind"] == "dashboard"
    assert (board.state["name"], board.state["open"], board.state["size"]) == ("shared", True, 2)
    press(kernel, board, "shown")
    cell = kernel.begin("job = pmap(held, range(4))\nwhile not job.done():\n    time.sleep(0.05)")
    board.wait_for(with_job("held", state="running", buttons=["pause", "cancel"]), "the job")
    board.wait_for(lambda state: len(state["workers"]) == 2, "the workers")
    signs.allow("go")
    cell.finish()
    board.wait_for(with_job("held", state="done", buttons=[]), "the end of the job")
    board.wait_for(lambda state: any("held" in block["title"] for block in state["blocks"]), "a block of the job")
    assert all(0 <= block["end"] <= block["start"] <= board.state["span"] for block in board.state["blocks"])


@pytest.mark.core
def test_jobs_are_paused_resumed_and_cancelled(kernel: Kernel, signs: Signs) -> None:
    """The buttons of a job's row do what the job's methods do, also for one that runs in the background."""
    kernel.run(HELD)
    kernel.run("job = pmap(held, range(4), desc='paused')")
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    press(kernel, board, "shown")  # There may be one that nobody has looked at for minutes.
    board.wait_for(with_job("paused"), "the job")
    key = next(job["key"] for job in board.jobs if job["name"] == "paused")
    press(kernel, board, "pause", job=key)
    board.wait_for(with_job("paused", state="paused", buttons=["resume", "cancel"]), "the pause")
    press(kernel, board, "resume", job=key)
    board.wait_for(with_job("paused", state="running"), "the end of the pause")
    press(kernel, board, "cancel", job=key)
    board.wait_for(with_job("paused", state="cancelled", buttons=[]), "the end")
    assert kernel.value("job.done()") is True


def test_a_click_that_is_sent_again_is_done_once(kernel: Kernel, signs: Signs) -> None:
    """A page that hears no answer repeats itself, and both may come; of another page it is another click."""
    kernel.run(HELD)
    kernel.run("job = pmap(held, range(4), desc='clicked')")
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    press(kernel, board, "shown")
    board.wait_for(with_job("clicked"), "the job")
    key = next(job["key"] for job in board.jobs if job["name"] == "clicked")

    def paused_after(action: str, by: str, number: int) -> object:
        kernel.click(board.name, {"action": action, "job": key, "by": by, "click": number})
        press(kernel, board, "nothing")
        return kernel.value("job.snapshot().state == 'paused'")

    clicks = [("pause", "a", 1), ("resume", "a", 2), ("pause", "a", 1), ("pause", "b", 1), ("resume", "a", 2)]
    assert [paused_after(*click) for click in clicks] == [True, False, False, True, True]
    kernel.run("job.cancel()")


def test_all_calls_of_a_function_are_one_row_and_cancelled_together(kernel: Kernel, signs: Signs) -> None:
    """Thousands of submits are no thousands of rows."""
    kernel.run(HELD)
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    press(kernel, board, "shown")
    kernel.run("calls = [aiopool.get_pool().submit(held, x) for x in range(5)]")
    board.wait_for(with_job("held", buttons=["cancel"]), "the calls")
    board.wait_for(lambda state: any("5 open" in job["facts"] for job in state["jobs"]), "all of them")
    (row,) = [job for job in board.jobs if job["state"] == "running"]
    press(kernel, board, "cancel", job=row["key"])
    kernel.run("while not all(call.done() for call in calls):\n    time.sleep(0.01)")


def test_the_pool_is_resized_and_its_workers_restarted(own_kernel: Kernel) -> None:
    """By the pool's own methods; what cannot be is said beside the buttons and does no harm."""
    kernel = own_kernel
    kernel.run("await aiopool.get_pool().broadcast(os.getpid)")
    board = board_of(kernel.run("pool = aiopool.get_pool()\npool.dashboard()"), kernel)
    board.wait_for(lambda state: len(state["workers"]) == 2, "the workers")
    press(kernel, board, "resize", size=1)
    board.wait_for(lambda state: state["size"] == 1 and len(state["workers"]) == 1, "the other size")
    press(kernel, board, "resize", size=0)
    assert "workers=0" in board.state["note"]
    press(kernel, board, "resize", size=2)
    assert board.state["note"] == ""
    # A worker that starts is as good as one that was restarted, and is left alone: both must have started.
    kernel.run("await aiopool.get_pool().broadcast(os.getpid)")
    before = kernel.workers()
    board.wait_for(lambda state: sorted(row["pid"] for row in state["workers"]) == sorted(map(str, before)), "both")
    first = next(int(row["pid"]) for row in board.state["workers"] if row["index"] == 0)
    press(kernel, board, "restart_worker", worker=0)
    kernel.until(lambda: first not in kernel.workers(), "the end of the worker")
    press(kernel, board, "restart")
    kernel.until(lambda: not set(before) & set(kernel.workers()), "the end of the workers")
    press(kernel, board, "restart_worker", worker=77)
    assert board.state["note"] == "there is no worker 77 now"
    press(kernel, board, "no such thing")


def test_the_stack_of_a_worker_is_shown(kernel: Kernel, signs: Signs) -> None:
    """It says at which line of the cell the worker is, and nothing waits for it."""
    kernel.run(HELD.replace("async def held", "def blocked").replace("await asyncio", "time"))
    kernel.run("job = pmap(blocked, range(2))")
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    press(kernel, board, "shown")
    board.wait_for(lambda state: [row["state"] for row in state["workers"]].count("busy") == 2, "the workers")

    def waits() -> bool:
        # It may be asked between two waits, and one that has no processor is looked at in another way.
        press(kernel, board, "stack", worker=1)
        board.wait_for(lambda _: not board.details["stack-1"].endswith("looking ..."), "the stack")
        return "time.sleep(0.01)" in board.details["stack-1"]

    kernel.until(waits, "the stack of an item that waits")
    assert board.details["stack-1"].startswith("worker 1 (pid ")
    assert "in blocked" in board.details["stack-1"]
    kernel.run("job.cancel()\nawait job.wait()")


def test_it_stops_when_nobody_sees_it_and_goes_on_when_somebody_does(kernel: Kernel, signs: Signs) -> None:
    """While it is hidden no state is sent; what happened meanwhile is there as soon as it is seen again."""
    kernel.run(HELD)
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    press(kernel, board, "shown")
    press(kernel, board, "hidden")
    states = quiet(kernel, board)
    kernel.run("job = pmap(held, range(2), desc='unseen')\nawait asyncio.sleep(0.8)\nsign('go')\nawait job")
    assert len(board.states) == states
    press(kernel, board, "shown")
    board.wait_for(lambda state: any("unseen" in block["title"] for block in state["blocks"]), "what it has missed")


def test_one_browser_that_goes_stops_nothing_for_another(kernel: Kernel, signs: Signs) -> None:
    """Two look; the one that hides it, or closes it, is not the last."""
    kernel.run(HELD)
    board = board_of(kernel.run("aiopool.get_pool().dashboard()"), kernel)
    for action, view in (("shown", "one"), ("shown", "two"), ("hidden", "one")):
        press(kernel, board, action, view=view)
    kernel.run("job = pmap(held, range(2), desc='seen')")
    board.wait_for(with_job("seen", state="running"), "the job")
    press(kernel, board, "hidden", view="two")
    states = quiet(kernel, board)
    kernel.run("sign('go')\nawait job\nawait asyncio.sleep(0.8)")
    assert len(board.states) == states


def test_a_pool_that_has_ended_is_shown_as_closed(kernel: Kernel) -> None:
    """Also by a dashboard that nobody saw when that happened; its buttons do no harm."""
    board = board_of(kernel.run("own = Pool(workers=1, name='own')\nown.dashboard()"), kernel)
    assert board.state["open"] is True
    kernel.run("own.close()\nown.join()")
    board.wait_for(lambda state: not state["open"] and state["title"] == "closed", "the end")
    press(kernel, board, "resize", size=3)
    assert "closed" in board.state["note"]
    press(kernel, board, "hidden")
    press(kernel, board, "shown")
    assert board.state["title"] == "closed"


def test_a_pool_has_one_dashboard_and_it_can_be_part_of_a_layout(kernel: Kernel) -> None:
    """Each call gives the same widget until it is closed; where it cannot be drawn there is HTML and text."""
    cell = kernel.run(
        """
        import ipywidgets
        pool = aiopool.get_pool()
        one = pool.dashboard()
        ipywidgets.VBox([one]).close()
        same = pool.dashboard() is one
        bundle = one._repr_mimebundle_()[0]
        one.close()
        same, pool.dashboard() is one, bundle["text/plain"].splitlines()[0], "<div" in bundle["text/html"]
        """
    )
    same, again, text, has_html = cell.value
    assert (same, again, has_html) == (True, False, True)
    assert text.startswith("Pool shared: ")


def test_a_dashboard_has_the_jobs_from_its_first_moment_on(kernel: Kernel, signs: Signs) -> None:
    """Where a program executes the notebook nobody looks, and what it begins with is what is saved."""
    kernel.run(HELD + "job = pmap(held, range(2), desc='early')")
    cell = kernel.run("own = aiopool.get_pool()\nown.dashboard().close()\nown.dashboard()")
    (bundle,) = [message.content["data"] for message in cell.messages if message.kind == "execute_result"]
    assert "early: 0 / 2" in bundle["text/plain"]
    assert "early" in bundle["text/html"]
    signs.allow("go")
    kernel.run("await job")


def test_the_magic_shows_the_shared_pool_and_opens_none(own_kernel: Kernel) -> None:
    """``%aiopool``; where there is none, it says so."""
    kernel = own_kernel
    # Not by %load_ext, which opens one.
    kernel.run("aiopool.jupyter.add_magics(get_ipython())")
    cell = kernel.run("%aiopool")
    assert cell.printed() == "No shared pool is open: the first pmap(...) opens it, or aiopool.get_pool().\n"
    assert kernel.value("aiopool.session._session.pool is None") is True
    kernel.run("await pmap(abs, [1])")
    assert board_of(kernel.run("%aiopool"), kernel).state["name"] == "shared"
