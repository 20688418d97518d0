"""Which parts of a file of shared pages are in use: an allocator over offsets, with no file at all."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from aiopool._payload.ranges import PAGE, Ranges, whole_pages

lengths = st.integers(1, 20 * PAGE)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), lengths),
        st.tuples(st.just("give"), st.integers(0, 100)),
        st.tuples(st.just("unused"), st.integers(0, 100)),
        st.tuples(st.just("tidy"), st.integers(0, 30)),
    ),
    max_size=60,
)


class Model:
    """The same, page by page: what stands on each page of the file, ``used`` by whom, ``warm`` or ``cold``."""

    def __init__(self) -> None:
        self.ranges = Ranges()
        self.pages: list[str] = []
        self.taken: dict[int, int] = {}

    def take(self, length: int) -> None:
        """Nothing of it may have been in use; and it is warm where it is said to be."""
        offset, is_warm = self.ranges.take(length)
        first, count = offset // PAGE, whole_pages(length) // PAGE
        assert offset % PAGE == 0
        self.pages.extend(["cold"] * (first + count - len(self.pages)))
        found = set(self.pages[first : first + count])
        assert found == {"warm"} if is_warm else found <= {"cold"}
        self.pages[first : first + count] = ["used"] * count
        self.taken[offset] = count

    def give(self, number: int, *, warm: bool) -> None:
        """Give one of them back."""
        if self.taken:
            offset = list(self.taken)[number % len(self.taken)]
            count = self.taken.pop(offset)
            self.ranges.give(offset, warm=warm)
            self.pages[offset // PAGE : offset // PAGE + count] = ["warm" if warm else "cold"] * count

    def tidy(self, most: int) -> None:
        """Only what is warm is taken away, and no more than must be."""
        before = self.pages.count("warm")
        parts = self.ranges.surplus(most * PAGE)
        for begin, end in parts:
            for page in range(begin // PAGE, end // PAGE):
                assert self.pages[page] == "warm"
                self.pages[page] = "cold"
        assert self.pages.count("warm") == min(before, most)
        for part in parts:
            self.ranges.cooled(part)

    def check(self) -> None:
        """Every page is in one list, and neighbours are one part."""
        warm, cold = self.ranges.parts()
        for parts, name in ((warm, "warm"), (cold, "cold")):
            assert [at for at, page in enumerate(self.pages) if page == name] == [
                page for begin, end in parts for page in range(begin // PAGE, end // PAGE)
            ]
            assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(parts))
        assert self.ranges.end == len(self.pages) * PAGE
        assert self.ranges.used_bytes == self.pages.count("used") * PAGE
        assert self.ranges.warm_bytes == self.pages.count("warm") * PAGE


@given(steps)
def test_no_two_ranges_that_are_in_use_overlap_and_every_page_is_accounted_for(steps):
    """Whatever is taken, given back and cooled, in whatever order."""
    model = Model()
    for name, number in steps:
        if name == "take":
            model.take(number)
        elif name == "tidy":
            model.tidy(number)
        else:
            model.give(number, warm=name == "give")
        model.check()


@given(lengths, st.integers(1, 30))
def test_what_comes_one_after_the_other_stands_in_the_same_place(length, times):
    """The memory that the first one has warmed serves all of them."""
    ranges = Ranges()
    first, _ = ranges.take(length)
    for _ in range(times):
        ranges.give(first)
        assert ranges.take(length) == (first, True)
    assert ranges.end == whole_pages(length)


@given(st.lists(lengths, min_size=1, max_size=20))
def test_a_file_that_was_emptied_is_one_part_again(sizes):
    """Nothing is lost between the ranges, in whatever order they come back."""
    ranges = Ranges()
    for offset in sorted([ranges.take(size)[0] for size in sizes], key=lambda offset: (offset * 7919) % 104729):
        ranges.give(offset)
    assert ranges.parts() == ([(0, ranges.end)], [])


def test_what_is_kept_warm_is_at_the_beginning():
    """There it is found first; a file that was long once does not stay long in memory."""
    ranges = Ranges()
    taken = [ranges.take(PAGE)[0] for _ in range(10)]
    for offset in taken:
        ranges.give(offset)
    assert ranges.surplus(3 * PAGE) == [(3 * PAGE, 10 * PAGE)]
    assert ranges.take(3 * PAGE) == (0, True)
