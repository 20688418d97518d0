"""Functions and classes of a cell, used from the next one: they travel as they are now, and come back as they were."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.kernel.harness import Kernel

pytestmark = pytest.mark.kernel


@dataclass(frozen=True)
class Case:
    """What stands in one cell, what the next one says, and what comes out."""

    name: str
    defined: str
    used: str
    expected: object
    core: bool = False


CASES = [
    Case(
        "an async def",
        """
        async def twice(x):
            await asyncio.sleep(0)
            return 2 * x
        """,
        "await pmap(twice, range(5))",
        [0, 2, 4, 6, 8],
        core=True,
    ),
    Case(
        "a def",
        """
        def square(x):
            return x * x
        """,
        "await pmap(square, range(5))",
        [0, 1, 4, 9, 16],
        core=True,
    ),
    Case("a lambda", "shout = lambda word: word.upper()", "await pmap(shout, ['a', 'b'])", ["A", "B"], core=True),
    Case("a lambda written in the call", "base = 10", "await pmap(lambda x: base + x, [1, 2])", [11, 12]),
    Case(
        "a lambda that returns a coroutine",
        """
        async def half(x):
            await asyncio.sleep(0)
            return x / 2
        """,
        "await pmap(lambda x: half(x + 1), [1, 3])",
        [1.0, 2.0],
    ),
    Case(
        "a closure",
        """
        def adder(n):
            def add(x):
                return x + n
            return add
        """,
        "await pmap(adder(3), [1, 2])",
        [4, 5],
        core=True,
    ),
    Case(
        "an async closure",
        """
        def waiter(n):
            async def add(x):
                await asyncio.sleep(0)
                return x + n
            return add
        """,
        "await pmap(waiter(4), [1, 2])",
        [5, 6],
    ),
    Case(
        "a bound method",
        """
        class Scale:
            def __init__(self, factor):
                self.factor = factor
            def by(self, x):
                return self.factor * x
            async def later(self, x):
                await asyncio.sleep(0)
                return self.factor * x
            @classmethod
            def named(cls, x):
                return cls.__name__ + str(x)
            @staticmethod
            def plain(x):
                return -x
        """,
        "[await pmap(fn, [1, 2]) for fn in (Scale(3).by, Scale(5).later, Scale.named, Scale.plain)]",
        [[3, 6], [5, 10], ["Scale1", "Scale2"], [-1, -2]],
        core=True,
    ),
    Case(
        "a partial",
        """
        def power(x, exponent):
            return x ** exponent
        async def slow_power(x, exponent):
            await asyncio.sleep(0)
            return x ** exponent
        """,
        "[await pmap(functools.partial(fn, exponent=3), [1, 2]) for fn in (power, slow_power)]",
        [[1, 8], [1, 8]],
        core=True,
    ),
    Case(
        "a callable object",
        """
        class Greet:
            def __init__(self, word):
                self.word = word
            def __call__(self, name):
                return self.word + name
        class GreetLater(Greet):
            async def __call__(self, name):
                await asyncio.sleep(0)
                return super().__call__(name)
        """,
        "[await pmap(Kind('hi '), ['A', 'B']) for Kind in (Greet, GreetLater)]",
        [["hi A", "hi B"], ["hi A", "hi B"]],
        core=True,
    ),
    Case(
        "a recursive function",
        """
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)
        async def factorial(n):
            return 1 if n == 0 else n * await factorial(n - 1)
        """,
        "[await pmap(fib, [5, 10]), await pmap(factorial, [3, 5])]",
        [[5, 55], [6, 120]],
        core=True,
    ),
    Case(
        "mutually recursive functions",
        """
        def is_even(n):
            return True if n == 0 else is_odd(n - 1)
        def is_odd(n):
            return False if n == 0 else is_even(n - 1)
        """,
        "await pmap(is_even, [4, 7])",
        [True, False],
        core=True,
    ),
    Case(
        "super",
        """
        class Shape:
            def __init__(self, side):
                self.side = side
            def area(self):
                return self.side ** 2
        class Cube(Shape):
            def __init__(self, side):
                super().__init__(side)
            def area(self):
                return 6 * super().area()
        def surface(side):
            return Cube(side).area()
        """,
        "await pmap(surface, [1, 2])",
        [6, 24],
    ),
    Case(
        "a class made inside a function",
        """
        OFFSET = 5
        def measure(x):
            class Local(Unit):
                offset = OFFSET
            return Local.offset + x
        class Unit:
            pass
        """,
        "await pmap(measure, [1, 2])",
        [6, 7],
    ),
    Case(
        "dataclasses",
        """
        @dataclass
        class Page:
            url: str
            size: int = 0
        @dataclass(frozen=True, slots=True)
        class Point:
            x: int
            y: int = 1
        def fetch(page):
            return Page(page.url, len(page.url)), Point(page.size)
        """,
        """
        got = await pmap(fetch, [Page("abc", 7), Page("de")])
        [got == [(Page("abc", 3), Point(7, 1)), (Page("de", 2), Point(0, 1))], type(got[0][0]) is Page]
        """,
        [True, True],
        core=True,
    ),
    Case(
        "enums",
        """
        class Color(enum.Enum):
            RED = "r"
            BLUE = "b"
        class Access(enum.IntFlag):
            READ = 1
            WRITE = 2
        def other(color):
            assert color is Color.RED or color is Color.BLUE
            return Color.BLUE if color is Color.RED else Color.RED, Access.READ | Access.WRITE
        """,
        """
        (first, flags), (second, _) = await pmap(other, [Color.RED, Color.BLUE])
        [first is Color.BLUE, second is Color.RED, flags is Access.READ | Access.WRITE]
        """,
        [True, True, True],
        core=True,
    ),
    Case(
        "a pydantic model",
        """
        from pydantic import BaseModel, ValidationError, field_validator
        class Tag(BaseModel):
            name: str
        class Article(BaseModel):
            title: str
            tags: list[Tag] = []
            @field_validator("title")
            @classmethod
            def not_empty(cls, title):
                if not title:
                    raise ValueError("empty")
                return title.strip()
        def parse(title):
            return Article(title=title, tags=[Tag(name=title[:1])])
        """,
        """
        articles = await pmap(parse, [" a ", "b"])
        broken = (await pmap(parse, [""], on_error="return"))[0]
        [
            articles == [Article(title="a", tags=[Tag(name=" ")]), Article(title="b", tags=[Tag(name="b")])],
            all(type(article) is Article and type(article.tags[0]) is Tag for article in articles),
            type(broken.error).__name__ == "ValidationError" and "empty" in str(broken.error),
        ]
        """,
        [True, True, True],
    ),
    Case(
        "a function with lru_cache",
        """
        @functools.lru_cache
        def cached_fib(n):
            return n if n < 2 else cached_fib(n - 1) + cached_fib(n - 2)
        @functools.cache
        def cached(x):
            return [x]
        def same_twice(x):
            return cached(x) is cached(x)
        class Table:
            @functools.lru_cache
            def row(self, n):
                return [n]
            def __hash__(self):
                return 1
        def rows(n):
            table = Table()
            return table.row(n) is table.row(n)
        """,
        "[await pmap(cached_fib, [50]), await pmap(same_twice, [1, 2]), await pmap(rows, [1])]",
        [[12586269025], [True, True], [True]],
        core=True,
    ),
    Case(
        "a decorated function",
        """
        def logged(fn):
            @functools.wraps(fn)
            def wrapper(*args, **kwargs):
                return ["logged", fn(*args, **kwargs)]
            return wrapper
        @logged
        def third(x, *, by=3):
            return x / by
        """,
        "await pmap(third, [3, 6])",
        [["logged", 1.0], ["logged", 2.0]],
    ),
    Case(
        "generators inside",
        """
        async def numbers(n):
            for i in range(n):
                await asyncio.sleep(0)
                yield i
        async def total(n):
            return sum([i async for i in numbers(n)]) + sum(i for i in range(n))
        """,
        "await pmap(total, [3, 4])",
        [6, 12],
    ),
    Case(
        "several inputs and unpacked ones",
        """
        def join(a, b, c="-"):
            return f"{a}{b}{c}"
        """,
        """
        [await pmap(join, ["a", "b"], [1, 2]), await pmap(join, [("a", 1, "!")], unpack=True),
         await pmap(join, [{"a": 1, "b": 2}], unpack=True)]
        """,
        [["a1-", "b2-"], ["a1!"], ["12-"]],
    ),
]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name.replace(" ", "_"), marks=[pytest.mark.core] if case.core else [])
        for case in CASES
    ],
)
def test_what_is_defined_in_one_cell_is_used_in_the_next(kernel: Kernel, case: Case) -> None:
    """Whatever Python calls a function, from a cell, with the classes and helpers it uses."""
    kernel.run(case.defined)
    assert kernel.value(case.used) == case.expected


def test_a_function_of_a_module_beside_the_notebook_is_used(kernel: Kernel) -> None:
    """What can be imported in the kernel can be imported in its workers, from its folder too."""
    (kernel.cwd / "beside.py").write_text("class Found(Exception): pass\ndef find(x):\n    return x, Found\n")
    kernel.run("import beside")
    assert kernel.value("[(x, cls is beside.Found) for x, cls in await pmap(beside.find, [1, 2])]") == [
        (1, True),
        (2, True),
    ]


# --- run again --------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_live_workers_see_what_was_redefined(kernel: Kernel) -> None:
    """Edit a helper, a global, a class or the function itself, run again: the same processes run the new text."""
    # On a machine that stands still, one more would come while coroutines make room for functions.
    kernel.run("import aiopool._core.policy as policy\nDRAIN, policy.DRAIN_SECONDS = policy.DRAIN_SECONDS, 60.0")
    kernel.run(
        """
        RATE = 2
        class Unit:
            sign = "$"
            def show(self, x):
                return f"{self.sign}{x}"
        def helper(x):
            return x * RATE
        def price(x):
            return Unit().show(helper(x)), os.getpid()
        async def price_later(x):
            await asyncio.sleep(0)
            return price(x)
        def run_again():
            return [pmap(fn, [1, 2, 3]).result() for fn in (price, price_later)]
        def shown(runs):
            return [[text for text, _ in run] for run in runs]
        before = run_again()
        """
    )
    kernel.until(lambda: len(kernel.workers()) == 2, "the end of a worker that another test has left")
    pids = kernel.workers()
    assert kernel.value("shown(before)") == [["$2", "$4", "$6"]] * 2
    assert kernel.value("RATE = 10\nshown(run_again())") == [["$10", "$20", "$30"]] * 2
    kernel.run("def helper(x):\n    return x + RATE")
    assert kernel.value("shown(run_again())") == [["$11", "$12", "$13"]] * 2
    kernel.run("class Unit:\n    def show(self, x):\n        return f'{x} EUR'")
    assert kernel.value("shown(run_again())") == [["11 EUR", "12 EUR", "13 EUR"]] * 2
    kernel.run("Unit.show = lambda self, x: f'{x} CHF'")
    assert kernel.value("shown(run_again())") == [["11 CHF", "12 CHF", "13 CHF"]] * 2
    kernel.run("def price(x):\n    return 'free', os.getpid()")
    assert kernel.value("shown(after := run_again())") == [["free"] * 3] * 2
    assert kernel.workers() == pids
    kernel.run("policy.DRAIN_SECONDS = DRAIN")
    assert set(kernel.value("[pid for run in before + after for _, pid in run]")) <= set(pids)


def test_a_global_that_an_item_changes_changes_nowhere_else(kernel: Kernel) -> None:
    """Each job has globals of its own: the kernel's stay as they are, and so does what the next job begins with."""
    kernel.run(
        """
        COUNT = 0
        def count(_):
            global COUNT
            COUNT += 1
            return COUNT
        """
    )
    first, second, kept = kernel.value("[max(await pmap(count, range(6))), max(await pmap(count, range(2))), COUNT]")
    assert 3 <= first <= 6
    assert second <= 2
    assert kept == 0


# --- classes ---------------------------------------------------------------------------------------------------------


@pytest.mark.core
def test_results_leave_the_kernels_classes_as_they_are(kernel: Kernel) -> None:
    """An instance that comes back is of the very class of the cell; what a worker did to its copy stays there."""
    kernel.run(
        """
        UNIT = "old"
        class Box:
            made = 0
            registry = {}
            def __init__(self, x):
                Box.made += 1
                Box.registry[x] = self
                self.x = x
            def show(self):
                return f"{self.x} {UNIT}"
        class Small(Box):
            pass
        Box_before, show_before, registry_before = Box, Box.show, Box.registry
        def pack(x):
            return {"boxes": [Box(x), Small(x)], "class": Small}
        """
    )
    cell = kernel.run(
        """
        job = pmap(pack, range(4))
        UNIT = "new"
        packed = await job
        boxes = [box for each in packed for box in each["boxes"]]
        [
            Box is Box_before and Box.show is show_before and Box.registry is registry_before,
            (Box.made, len(Box.registry)),
            [type(box) is cls for box, cls in zip(boxes, [Box, Small] * 4)] == [True] * 8,
            all(each["class"] is Small for each in packed),
            boxes[0].show(), Box(9).show(),
            Box.made,
        ]
        """
    )
    assert cell.value == [True, (0, 0), True, True, "0 new", "9 new", 1]


@pytest.mark.core
def test_isinstance_and_identity_hold_both_ways(kernel: Kernel) -> None:
    """In the worker too, and for what one job returned and the next is given."""
    kernel.run(
        """
        class Level(enum.Enum):
            LOW = 1
            HIGH = 2
        class Node:
            def __init__(self, level):
                self.level = level
        class Leaf(Node):
            pass
        def grow(node):
            assert isinstance(node, Node) and type(node) is Leaf, type(node)
            assert node.level is Level.LOW
            return Leaf(Level.HIGH)
        async def judge(node):
            await asyncio.sleep(0)
            return isinstance(node, Node), type(node) is Leaf, node.level is Level.HIGH
        """
    )
    cell = kernel.run(
        """
        grown = await pmap(grow, [Leaf(Level.LOW) for _ in range(4)])
        assert all(type(leaf) is Leaf and isinstance(leaf, Node) and leaf.level is Level.HIGH for leaf in grown)
        set(await pmap(judge, grown))
        """
    )
    assert cell.value == {(True, True, True)}


def test_a_class_defined_anew_is_the_class_of_new_results(kernel: Kernel) -> None:
    """As everywhere in Python: what was made before stays what it was."""
    kernel.run(
        """
        class Cat:
            sound = "miau"
        def make(_):
            return Cat()
        old = (await pmap(make, [1]))[0]
        OldCat = Cat
        """
    )
    cell = kernel.run(
        """
        class Cat:
            sound = "meow"
        new = (await pmap(make, [1]))[0]
        [type(old) is OldCat, old.sound, type(new) is Cat, new.sound]
        """
    )
    assert cell.value == [True, "miau", True, "meow"]


def test_a_function_goes_to_a_worker_once_per_job(kernel: Kernel) -> None:
    """What it needs is built once there, however many items follow."""
    kernel.run(
        """
        class Weighed:
            def __init__(self, loads=0):
                self.loads = loads
            def __setstate__(self, state):
                self.loads = state["loads"] + 1
                self.made = time.monotonic_ns()
        weighed = Weighed()
        def ask(_):
            return os.getpid(), weighed.made
        """
    )
    seen = kernel.value("[len(set(got := await pmap(ask, range(50), batch=1))), len({pid for pid, _ in got})]")
    assert seen[0] == seen[1]
