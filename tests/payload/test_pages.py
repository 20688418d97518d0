"""Shared pages: what is written once into a file without a name, and mapped by whoever has inherited it."""

from __future__ import annotations

import errno
import functools
import gc
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiopool._payload import files, forks, pages, system
from aiopool._payload.pages import Lent, Pages, Reader, laid_out
from aiopool._payload.ranges import PAGE
from aiopool.errors import FrameError
from tests.pool.board import until

ON_LINUX = sys.platform == "linux"


class Both:
    """A writer and a reader of one file; ``over`` is what the reader has let go of."""

    def __init__(self, **options: int) -> None:
        self.fd = files.anonymous("test")
        self.pages = Pages(self.fd, **options)
        self.over: list[int] = []
        self.reader = Reader(os.dup(self.fd), self.over.append)

    def through(self, *buffers: bytes, shared: bool = False) -> list[memoryview]:
        """What the reader finds of these; the writer's grant lasts as long as the test."""
        grant = self.pages.write([memoryview(buffer) for buffer in buffers])
        assert grant is not None
        self.grants.append(grant)
        return self.reader.claim(grant.offset, grant.length).buffers([len(each) for each in buffers], shared=shared)

    @property
    def grants(self) -> list[pages.Grant]:
        """All that was written."""
        return self.__dict__.setdefault("_grants", [])

    def memory(self) -> int:
        """How many bytes of memory stand behind the file."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self) -> None:
        """End both."""
        self.pages.close()
        os.close(self.fd)


@contextmanager
def both(**options: int) -> Iterator[Both]:
    """A writer and a reader of one file."""
    made = Both(**options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(params=["memfd", "a file"])
def ends(request, monkeypatch):
    """Both ends, of memory that has a descriptor, and of a file on a disk."""
    if request.param == "a file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    with both() as made:
        yield made


def test_buffers_arrive_as_they_were(ends):
    """Of every length, several in one range, each where a line of the cache begins."""
    sent = [random.Random(size).randbytes(size) for size in (1, 63, 64, 65, PAGE - 1, PAGE, PAGE + 1, 3 << 20)]
    assert [bytes(view) for view in ends.through(*sent)] == sent
    assert all(place % pages.ALIGNED == 0 for place in laid_out(map(len, sent))[0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), max_size=8), st.randoms())
def test_what_is_in_use_never_changes(values, chance):
    """Whatever is written and let go of meanwhile: each view shows what was written for it."""
    with both(warm=0) as ends:
        kept = []
        for value in values:
            grant = ends.pages.write([memoryview(buffer) for buffer in value])
            lease = ends.reader.claim(grant.offset, grant.length)
            kept.append((value, grant, lease.buffers([len(buffer) for buffer in value])))
            if chance.random() < 0.4:
                kept.pop(chance.randrange(len(kept)))
                ends.pages.tidy()
            for expected, _, views in kept:
                assert [bytes(view) for view in views] == expected


def test_what_a_reader_writes_is_seen_by_nobody_else(ends):
    """Its pages are copied when it does; the writer's and another reader's stay as they are."""
    (mine,) = ends.through(b"abc" * PAGE)
    (grant,) = ends.grants
    (others,) = ends.reader.claim(grant.offset, grant.length).buffers([3 * PAGE])
    mine[:3] = b"xyz"
    assert bytes(mine[:6]) == b"xyzabc"
    assert bytes(others[:6]) == b"abcabc"
    assert os.pread(ends.fd, 3, grant.offset) == b"abc"


def test_what_is_shared_cannot_be_written_to(ends):
    """All who read it read the same memory."""
    (view,) = ends.through(b"abc" * PAGE, shared=True)
    assert view.readonly
    assert bytes(view) == b"abc" * PAGE


def test_a_range_is_over_when_the_last_view_of_it_dies(ends):
    """Not when the lease does, and not before a slice of a slice."""
    first, second = ends.through(b"a" * 100, b"b" * 100)
    part = second[10:20][:5]
    gc.collect()
    assert ends.over == []
    del first
    del second
    assert ends.over == []
    del part
    assert ends.over == [0]


def test_a_lease_that_nobody_opens_is_over_when_it_dies(ends):
    """A result that is never loaded."""
    grant = ends.pages.write([memoryview(b"abc")])
    lease = ends.reader.claim(grant.offset, grant.length)
    assert ends.reader.bytes == grant.length
    del lease
    assert ends.over == [0]
    assert ends.reader.bytes == 0


@pytest.mark.skipif(not ON_LINUX, reason="nothing says which pages were written to")
def test_a_mapping_that_nobody_has_written_to_serves_what_comes_next():
    """The system need not find its pages again, which takes longer than to write them."""
    with both() as ends:
        places = set()
        for number in range(5):
            (view,) = ends.through(bytes([number]) * PAGE)
            with system.address_of(view) as address:
                places.add(address)
            assert bytes(view) == bytes([number]) * PAGE
            del view
            ends.grants.clear()
        assert len(places) == 1


def test_what_was_written_into_one_mapping_is_not_in_the_next(ends):
    """What comes next at the same place is what was sent, wherever the last one had written."""
    for number in range(20):
        (view,) = ends.through(bytes([number]) * 10 * PAGE)
        assert bytes(view) == bytes([number]) * 10 * PAGE
        if number % 3:
            view[number * 1000] = 255
        del view
        ends.grants.clear()


def test_of_mappings_that_serve_nobody_only_so_many_are_kept(ends, monkeypatch):
    """Neither many bytes nor many of them; none once the writer is gone."""
    monkeypatch.setattr(pages, "KEPT_BYTES", 10 * PAGE)
    monkeypatch.setattr(pages, "MOST_KEPT", 4)
    views = [ends.through(bytes(pages_of * PAGE)) for pages_of in (11, 1, 1, 1, 1, 1, 1, 7, 5, 3)]
    gone: list[int] = []
    munmap = system.munmap
    monkeypatch.setattr(system, "munmap", lambda address, size: gone.append(size // PAGE) or munmap(address, size))
    for view in views:
        view.clear()
    if ON_LINUX:
        assert gone == [11, 1, 1, 1, 1, 1, 1, 7]
    ends.reader.writer_is_gone()
    assert sorted(gone) == sorted([11, 1, 1, 1, 1, 1, 1, 7, 5, 3])


def test_another_thread_may_see_to_mappings():
    """Who lets go does not wait for it; a range is over when it is done."""
    with both() as ends:
        asked = []
        over: list[int] = []
        reader = Reader(os.dup(ends.fd), over.append, lambda: asked.append(True))
        grant = ends.pages.write([memoryview(b"abc")])
        (view,) = reader.claim(grant.offset, grant.length).buffers([3])
        del view
        assert (asked, over) == ([True], [])
        reader.settle()
        assert over == [0]


def test_memory_that_is_warm_serves_what_is_written_next(ends):
    """One value after the other in the same place."""
    data = bytes(1 << 20)
    for _ in range(5):
        grant = ends.pages.write([memoryview(data)])
        assert grant.offset == 0
        del grant
    assert ends.pages.used_bytes == 0
    assert ends.pages.warm_bytes == 1 << 20
    assert ends.memory() <= (1 << 20) + PAGE


def test_memory_beyond_what_may_be_warm_goes_back_to_the_system():
    """A pool that has once returned a lot does not keep it."""
    with both(warm=1 << 20) as ends:
        grants = [ends.pages.write([memoryview(bytes(1 << 20))]) for _ in range(8)]
        assert ends.memory() >= 8 << 20
        del grants
        ends.pages.tidy()
        assert ends.pages.warm_bytes == 1 << 20
        if ON_LINUX:
            assert ends.memory() == 1 << 20
        ends.pages.tidy(0)
        assert ends.pages.warm_bytes == 0
        if ON_LINUX:
            assert ends.memory() == 0


def test_what_was_given_to_the_system_can_be_written_to_again(ends):
    """Its memory is found anew."""
    for _ in range(3):
        (view,) = ends.through(b"abc" * PAGE)
        assert bytes(view[-3:]) == b"abc"
        del view
        ends.grants.clear()
        ends.pages.tidy(0)


def test_a_full_file_takes_no_more_until_something_comes_back():
    """Who writes is told at once, and waits for nobody."""
    with both(most=3 << 20) as ends:
        megabyte = [memoryview(bytes(1 << 20))]
        grants = [ends.pages.write(megabyte) for _ in range(3)]
        assert all(grants)
        assert ends.pages.write(megabyte) is None
        grants.pop()
        assert ends.pages.write(megabyte) is not None


def test_in_a_container_half_of_what_it_may_have_is_used(ends, monkeypatch):
    """Of the machine's memory it has a part; what is in the pages counts as its own."""
    monkeypatch.setattr(system, "memory_limit", lambda: 64 << 20)
    assert Pages(ends.fd)._most == 32 << 20
    monkeypatch.setattr(system, "memory_limit", lambda: None)
    assert Pages(ends.fd)._most > 32 << 20


def test_where_there_is_no_memory_nothing_is_written_and_nothing_is_lost(ends, monkeypatch):
    """A full disk, a limit of this user's: the value travels as it did before there were pages."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(system, "madvise", lambda *_: -1)
        context.setattr(os, "pwrite", full)
        assert ends.pages.write([memoryview(b"abc")]) is None
    assert ends.pages.used_bytes == 0
    assert [bytes(view) for view in ends.through(b"abc")] == [b"abc"]


def test_a_system_that_cannot_find_memory_beforehand_is_written_zeros_to(ends, monkeypatch):
    """Before Linux 5.14, and elsewhere: a page that cannot be had must be an error, and no signal."""
    monkeypatch.setattr(system, "madvise", lambda *_: -1)
    sent = random.Random(1).randbytes((2 << 20) + 12345)
    assert [bytes(view) for view in ends.through(sent)] == [sent]
    assert ends.memory() >= 2 << 20


def test_a_system_that_cannot_move_mappings_makes_new_ones(ends, monkeypatch):
    """The file grows in place; what was mapped before is mapped again."""
    monkeypatch.setattr(system, "mremap", None)
    monkeypatch.setattr(pages, "FIRST_SIZE", PAGE)
    sent = [random.Random(size).randbytes(size * PAGE) for size in (1, 2, 4, 9)]
    views = [ends.through(each)[0] for each in sent]
    assert [bytes(view) for view in views] == sent


def stopped_at(number: int, function: Callable[[], object], *within: str) -> bool:
    """Call it, and raise as a Stop would before so many steps of the interpreter; whether it came that far."""
    steps = itertools.count()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename != pages.__file__ or frame.f_code.co_name not in within:
            return None
        frame.f_trace_opcodes = True
        # Python 3.12 tells of lines only.
        if event in {"opcode", "line"} and next(steps) == number:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("moves", [True, False])
def test_a_stop_while_the_file_grows_leaves_what_can_be_written_to(monkeypatch, moves):
    """At whatever step it strikes. In a child: what is not mapped any more ends a process."""
    monkeypatch.setattr(pages, "FIRST_SIZE", PAGE)
    if not moves:
        monkeypatch.setattr(system, "mremap", None)

    def strike() -> None:
        for number in itertools.count():
            with both() as ends:
                ends.through(b"before" * 10)
                grow = functools.partial(ends.pages.write, [memoryview(bytes(2 * PAGE))])
                if not stopped_at(number, grow, "_reach", "_mapping"):
                    assert number > 10
                    return
                for size in (1, 4):
                    sent = random.Random(size).randbytes(size * PAGE)
                    assert bytes(ends.through(sent)[0]) == sent

    assert in_child(strike) == 0


def test_what_cannot_be_mapped_is_copied(ends, monkeypatch):
    """A process may have so many mappings and no more; the value arrives all the same."""
    sent = random.Random(1).randbytes(PAGE + 5)
    grant = ends.pages.write([memoryview(sent)])
    monkeypatch.setattr(system, "mmap", lambda *_: None)
    (view,) = ends.reader.claim(grant.offset, grant.length).buffers([len(sent)])
    assert bytes(view) == sent
    view[0] = 1
    (view,) = ends.reader.claim(grant.offset, grant.length).buffers([len(sent)], shared=True)
    assert bytes(view) == sent
    assert view.readonly
    assert ends.over[:1] == [0]


def test_views_need_no_descriptor_each():
    """A process may have a thousand open files, and a job more results than that."""
    with both() as ends:
        before = len(list(Path("/dev/fd").iterdir()))
        views = [ends.through(b"abc") for _ in range(300)]
        assert len(list(Path("/dev/fd").iterdir())) <= before
        assert all(bytes(view) == b"abc" for (view,) in views)


# --- who lies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        *((0, 0), (0, -1), (1, 10), (PAGE - 1, 10), (-PAGE, 10), (1 << 40, 10), (0, 1 << 40)),
        *((64 << 20, 1), ((64 << 20) - PAGE, PAGE + 1), (0, 1 << 80), (1 << 80, 10)),
    ],
)
def test_a_range_that_the_file_does_not_have_is_a_frame_error(ends, offset, length):
    """To look there would end the process by a signal."""
    ends.through(b"abc")
    with pytest.raises(FrameError, match="shared pages of"):
        ends.reader.claim(offset, length)


@pytest.mark.parametrize("lengths", [[-1], [1 << 20], [60, 65], [1 << 80]])
def test_buffers_that_do_not_fit_into_their_range_are_a_frame_error(ends, lengths):
    """A table that is not of this value."""
    grant = ends.pages.write([memoryview(b"a" * 100)])
    lease = ends.reader.claim(grant.offset, grant.length)
    with pytest.raises(FrameError, match="in shared pages of 128"):
        lease.buffers(lengths)


def test_what_was_not_lent_cannot_come_back():
    """Else somebody else's memory would be written to."""
    with both() as ends:
        lent = Lent()

        class Told:
            def __init__(self, grant: pages.Grant) -> None:
                self.grant = grant

        grant = ends.pages.write([memoryview(b"abc")])
        with pytest.raises(FrameError, match="which were not lent"):
            lent.back([0])
        lent.lend([(0, Told(grant))])
        lent.lend([(0, Told(grant))])
        del grant
        lent.back([0])
        assert ends.pages.used_bytes == PAGE
        lent.back([0])
        assert ends.pages.used_bytes == 0
        with pytest.raises(FrameError, match="which were not lent"):
            lent.back([0])


def test_a_file_cannot_be_cut_off():
    """Whoever has mapped the rest of it would be ended by a signal: it has no name, and a seal where there are any."""
    with both() as ends:
        ends.through(b"abc")
        assert os.fstat(ends.fd).st_nlink == 0
        if hasattr(os, "memfd_create"):
            with pytest.raises(PermissionError):
                os.ftruncate(ends.fd, 0)


def test_a_number_that_another_file_has_by_now_is_neither_read_nor_written(ends, tmp_path):
    """Code that closes all it finds open, and then opens a file of its own."""
    grant = ends.pages.write([memoryview(b"abc")])
    lease = ends.reader.claim(grant.offset, grant.length)
    precious = tmp_path / "precious"
    precious.write_bytes(b"x" * PAGE * 4)
    saved = os.dup(ends.fd)
    with precious.open("r+b") as file:
        os.dup2(file.fileno(), ends.fd)
        os.dup2(file.fileno(), ends.reader.fd)
        with pytest.raises(OSError, match="was closed by the code of an item"):
            lease.buffers([3])
        assert ends.pages.write([memoryview(b"abc")]) is None
        del grant
        ends.pages.tidy(0)
        ends.reader.writer_is_gone()
        assert precious.read_bytes() == b"x" * PAGE * 4
    os.dup2(saved, ends.fd)
    os.dup2(saved, ends.reader.fd)
    os.close(saved)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_memory_of_a_writer_that_is_gone_goes_with_the_last_view(ends):
    """What nobody looks at goes at once, the rest with its own last view; the descriptor with all of them."""
    kept = ends.through(b"a" * PAGE)
    opened = ends.through(b"b" * PAGE)
    grant = ends.pages.write([memoryview(b"c" * PAGE)])
    lease = ends.reader.claim(grant.offset, grant.length)
    ends.through(b"d" * PAGE)
    ends.reader.writer_is_gone()
    assert bytes(kept[0]) == b"a" * PAGE
    assert bytes(opened[0]) == b"b" * PAGE
    assert bytes(lease.buffers([PAGE])[0]) == b"c" * PAGE
    if ON_LINUX:
        assert ends.memory() == 3 * PAGE
        del opened
        assert ends.memory() == 2 * PAGE
        del lease
        del kept
        assert ends.memory() == 0
    assert ends.over == [3 * PAGE]


def test_a_reader_closes_its_descriptor_with_the_last_lease(ends):
    """Whoever holds a value that was not loaded yet needs it."""
    grant = ends.pages.write([memoryview(b"abc")])
    lease = ends.reader.claim(grant.offset, grant.length)
    fd = ends.reader.fd
    ends.reader = None
    os.fstat(fd)
    assert bytes(lease.buffers([3])[0]) == b"abc"
    del lease
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_nothing_is_written_once_the_file_is_closed(ends):
    """The pool has ended, and a feeder does not know yet."""
    grant = ends.pages.write([memoryview(b"abc")])
    ends.pages.close()
    assert ends.pages.write([memoryview(b"abc")]) is None
    del grant
    ends.pages.tidy(0)
    ends.pages.close()


def test_many_threads_write_and_let_go_at_once(ends):
    """Each finds what it wrote."""
    wrong: list[object] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        kept = []
        for _ in range(60):
            data = chance.randbytes(chance.randrange(1, 3 * PAGE))
            grant = ends.pages.write([memoryview(data)])
            lease = ends.reader.claim(grant.offset, grant.length)
            kept.append((data, grant, lease.buffers([len(data)])))
            if len(kept) > 5:
                data, grant, views = kept.pop(chance.randrange(len(kept)))
                if [bytes(view) for view in views] != [data]:
                    wrong.append(data)
            ends.pages.tidy(chance.randrange(4) * PAGE)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    gc.collect()
    assert ends.pages.used_bytes == 0


def test_a_value_whose_end_writes_another_one_can_end_anywhere(ends):
    """The garbage collector may come at any line, also while something is written."""

    class Last:
        def __del__(self) -> None:
            grants.append(ends.pages.write([memoryview(b"last")]))

    class Written(bytearray):
        pass

    grants: list[object] = []
    ending = [Last()]
    before = system.address_of

    @contextmanager
    def address_of(view: memoryview) -> Iterator[int]:
        ending.clear()
        with before(view) as address:
            yield address

    system.address_of = address_of
    try:
        grants.append(ends.pages.write([memoryview(b"first"), memoryview(Written(b"second"))]))
    finally:
        system.address_of = before
    inner, outer = grants
    assert os.pread(ends.fd, 4, inner.offset) == b"last"
    assert os.pread(ends.fd, 5, outer.offset) == b"first"
    assert os.pread(ends.fd, 6, outer.offset + pages.ALIGNED) == b"second"


# --- forks -----------------------------------------------------------------------------------------------------------


def in_child(do) -> int:
    """Fork, do this in the child, and wait for it; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_lets_go_says_nothing_and_changes_nothing(ends):
    """Its views are its own; the file is its parent's."""
    (view,) = ends.through(b"abc")
    grant = ends.pages.write([memoryview(b"def")])

    def end() -> None:
        nonlocal view, grant
        del view, grant
        ends.grants.clear()
        ends.pages.tidy(0)
        assert ends.over == []

    assert in_child(end) == 0
    assert ends.over == []
    assert bytes(view) == b"abc"
    assert os.pread(ends.fd, 3, grant.offset) == b"def"


class Child:
    """A forked process that does ``first`` and then stays until it is told to end."""

    def __init__(self, first=lambda: None) -> None:
        told, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._tell)
                first()
                os.read(told, 1)
            finally:
                os._exit(0)
        os.close(told)

    def end(self) -> None:
        """Have it end, and wait for it."""
        os.close(self._tell)
        os.waitpid(self.pid, 0)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_a_child_may_still_look_at_is_not_over(ends):
    """Its views are of the same pages, which must not be written to before it has ended."""
    (before,) = ends.through(b"abc")
    child = Child()
    (after,) = ends.through(b"def")
    del after
    assert ends.over == [PAGE]
    del before
    assert ends.over == [PAGE]
    child.end()
    ends.through(b"ghi")
    assert ends.over == [PAGE, 0, 2 * PAGE]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_that_share_nothing_any_more_hold_nothing(ends):
    """Other programs, as workers are, and children that have ended: what was mapped before is over at once."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (view,) = ends.through(b"abc")
    child = Child()
    script = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    program = subprocess.Popen(  # it has to fork
        script,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: None,  # noqa: PLW1509
    )
    assert program.stdout.readline() == b"\n"  # By now it is another program, and has closed what is not for that.
    child.end()
    del view
    assert ends.over == [0]
    for each in (other, program):
        each.communicate(b"\n")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_of_children_are_children(ends):
    """The one in between has ended, and the memory is still looked at."""
    (view,) = ends.through(b"abc")
    told, tell = os.pipe()
    child = Child(lambda: os.fork() or (os.close(tell), os.read(told, 1), os._exit(0)))
    child.end()
    del view
    assert ends.over == []
    os.close(tell)
    until(lambda: ends.through(b"def") and 0 in ends.over, what="the last of them has ended")
    os.close(told)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("short_of", ["descriptors", "patience"])
def test_children_that_nobody_can_watch_hold_what_they_may_look_at(ends, monkeypatch, short_of):
    """As long as there are any children: too many at a time, or no descriptor left."""
    children = True
    monkeypatch.setattr(system, "has_children", lambda: children)
    if short_of == "descriptors":
        monkeypatch.setattr(os, "pipe", no_descriptors)
    else:
        monkeypatch.setattr(forks, "MOST_WATCHED", 0)
    (view,) = ends.through(b"abc")
    assert in_child(lambda: None) == 0
    del view
    assert ends.over == []
    children = False
    ends.through(b"def")
    assert 0 in ends.over


def no_descriptors():
    """As the system says it."""
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_forks_a_lot_has_no_more_open_for_it(ends):
    """Of children that have ended nothing is left, here or in a child."""
    count = len(list(Path("/dev/fd").iterdir()))
    for _ in range(100):
        (view,) = ends.through(b"abc")
        assert in_child(lambda: None) == 0
        del view
    assert len(list(Path("/dev/fd").iterdir())) <= count
    assert len(ends.over) == 100


def test_who_has_many_mappings_gets_copies(ends, monkeypatch):
    """A process may have so many, and needs them for its threads and its memory, too."""
    views = [ends.through(b"abc") for _ in range(3)]
    # No more than any that there may be: meanwhile the collector may unmap what tests before this one have left.
    assert forks.mappings() >= 3
    monkeypatch.setattr(pages, "MOST_MAPPED", 0)
    (view,) = ends.through(b"def")
    assert ends.over == [3 * PAGE]
    view[0:1] = b"D"
    assert bytes(view) == b"Def"
    assert [bytes(each) for (each,) in views] == [b"abc"] * 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_are_known_until_they_were_waited_for():
    """One that has ended, but was not waited for, is still there. In a process that has none of other tests."""

    def bear() -> None:
        assert not system.has_children()
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
        assert system.has_children()
        os.waitpid(pid, 0)
        assert not system.has_children()

    assert in_child(bear) == 0
