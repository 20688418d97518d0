"""What a worker's main thread waits in: calls come through in order, none is lost, and the loop comes when needed."""

from __future__ import annotations

import signal
import threading
import weakref

import pytest

from aiopool._worker.loops import LoopOnDemand

DEADLINE = 20


@pytest.fixture
def calls():
    """One, whose loop is closed."""
    calls = LoopOnDemand()
    yield calls
    if calls.made is not None:
        calls.made.close()


def test_functions_are_called_in_order_without_a_loop(calls):
    """Until one of them stops it; what comes behind that waits for the next run."""
    seen = []
    for number in range(3):
        calls.call_soon_threadsafe(seen.append, number)
    calls.call_soon_threadsafe(calls.stop)
    calls.call_soon_threadsafe(seen.append, "later")
    calls.call_soon_threadsafe(calls.stop)
    calls.run_forever()
    assert seen == [0, 1, 2]
    calls.run_forever()
    assert seen == [0, 1, 2, "later"]
    assert calls.made is None


def test_from_when_the_loop_is_asked_for_it_is_what_runs(calls):
    """What waited comes before what is called later, and a run that was in the queue goes on in the loop."""
    seen = []

    def need_it():
        seen.append(calls.get().is_running())
        calls.get().call_soon(seen.append, "in the loop")
        calls.call_soon_threadsafe(calls.stop)

    calls.call_soon_threadsafe(need_it)
    calls.call_soon_threadsafe(seen.append, "waited")
    calls.run_forever()
    assert seen == [False, "waited", "in the loop"]
    assert calls.get() is calls.made


def test_no_call_is_lost_or_made_twice_while_the_loop_is_being_made(calls):
    """Threads call all the time, before, meanwhile and after."""
    seen = []
    each, threads = 2000, 4
    halfway = threading.Event()

    def caller(name):
        for number in range(each):
            calls.call_soon_threadsafe(seen.append, (name, number))
            if number == each // 2:
                halfway.set()

    running = [threading.Thread(target=caller, args=(name,)) for name in range(threads)]
    for thread in running:
        thread.start()
    assert halfway.wait(DEADLINE)
    calls.call_soon_threadsafe(calls.get)

    def end():
        for thread in running:
            thread.join(DEADLINE)
        calls.call_soon_threadsafe(calls.stop)

    ending = threading.Thread(target=end)
    ending.start()
    calls.run_forever()
    ending.join(DEADLINE)
    assert sorted(seen) == [(name, number) for name in range(threads) for number in range(each)]


def test_nothing_that_was_called_is_held_while_it_waits(calls):
    """Nor in the loop that then runs: an argument may be a job, whose end lets go of much."""

    class Job:
        def use(self):
            calls.get()

    def waiting():
        gone.append(alive() is None)
        calls.stop()

    gone = []
    job = Job()
    alive = weakref.ref(job)
    calls.call_soon_threadsafe(lambda job: job.use(), job)
    calls.call_soon_threadsafe(waiting)
    del job
    calls.run_forever()
    assert gone == [True]


def test_a_signal_is_handled_while_nothing_is_called(calls):
    """The handler runs at once, may call, and what it raises comes out, as of a loop's run."""
    seen = []

    def handler(*_):
        seen.append("handled")
        calls.call_soon_threadsafe(seen.append, "called")
        raise InterruptedError("mine")

    before = signal.signal(signal.SIGUSR1, handler)
    main = threading.get_ident()
    calls.call_soon_threadsafe(lambda: signal.pthread_kill(main, signal.SIGUSR1))
    try:
        with pytest.raises(InterruptedError, match="mine"):
            calls.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, before)
    calls.call_soon_threadsafe(calls.stop)
    calls.run_forever()
    assert seen == ["handled", "called"]
