"""Every kind of function that a cell may hold: the cell, which makes `f`; an argument; what `f` gives for it."""

from __future__ import annotations

FUNCTIONS = {
    "a def": (
        "def f(x): return x + 1",
        3,
        4,
    ),
    "an async def": (
        """
        import asyncio
        async def f(x):
            await asyncio.sleep(0)
            return x + 1
        """,
        3,
        4,
    ),
    "a lambda": (
        "f = lambda x: x + 1",
        3,
        4,
    ),
    "a closure": (
        """
        def make(n):
            def f(x): return x + n
            return f
        f = make(10)
        """,
        3,
        13,
    ),
    "a closure over a mutable": (
        """
        def make():
            seen = []
            def f(x):
                seen.append(x)
                return len(seen)
            return f
        f = make()
        """,
        3,
        1,
    ),
    "a partial": (
        """
        import functools
        def g(a, b): return a - b
        f = functools.partial(g, b=1)
        """,
        3,
        2,
    ),
    "a partial of a partial of an async def": (
        """
        import functools
        async def g(a, b, c): return (a, b, c)
        f = functools.partial(functools.partial(g, c=3), b=2)
        """,
        1,
        (1, 2, 3),
    ),
    "a bound method": (
        """
        class C:
            def __init__(self): self.n = 5
            def m(self, x): return x * self.n
        f = C().m
        """,
        3,
        15,
    ),
    "an async bound method": (
        """
        class C:
            async def m(self, x): return x * 2
        f = C().m
        """,
        3,
        6,
    ),
    "a classmethod": (
        """
        class C:
            n = 7
            @classmethod
            def m(cls, x): return x * cls.n
        f = C.m
        """,
        3,
        21,
    ),
    "a staticmethod": (
        """
        class C:
            @staticmethod
            def m(x): return x * 2
        f = C.m
        """,
        3,
        6,
    ),
    "a callable object": (
        """
        class C:
            def __call__(self, x): return x * 2
        f = C()
        """,
        3,
        6,
    ),
    "an async callable object": (
        """
        class C:
            async def __call__(self, x): return x * 2
        f = C()
        """,
        3,
        6,
    ),
    "a recursive function": (
        "def f(n): return 1 if n < 2 else n * f(n - 1)",
        5,
        120,
    ),
    "mutually recursive functions": (
        """
        def f(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and f(n - 1)
        """,
        10,
        True,
    ),
    "a recursive coroutine": (
        "async def f(n): return 1 if n < 2 else n * await f(n - 1)",
        5,
        120,
    ),
    "super()": (
        """
        class A:
            def m(self, x): return x + 1
        class B(A):
            def m(self, x): return super().m(x) * 2
        f = B().m
        """,
        3,
        8,
    ),
    "a class": (
        """
        class f:
            def __init__(self, x): self.x = x
            def __eq__(self, o): return self.x == o
        """,
        3,
        3,
    ),
    "an lru_cache": (
        """
        import functools
        @functools.lru_cache(maxsize=7)
        def f(x): return x + f.cache_info().maxsize
        """,
        3,
        10,
    ),
    "a recursive cache": (
        """
        import functools
        @functools.cache
        def f(n): return n if n < 2 else f(n-1) + f(n-2)
        """,
        30,
        832040,
    ),
    "a cached method": (
        """
        import functools
        class C:
            @functools.lru_cache
            def m(self, x): return x + 1
        f = C().m
        """,
        3,
        4,
    ),
    "a cached_property": (
        """
        import functools
        class C:
            @functools.cached_property
            def p(self): return 42
        def f(x):
            c = C()
            return (c.p, vars(c))
        """,
        3,
        (42, {"p": 42}),
    ),
    "a singledispatch": (
        """
        import functools
        @functools.singledispatch
        def f(x): return 'object'
        @f.register
        def _(x: int): return 'int'
        """,
        3,
        "int",
    ),
    "a singledispatchmethod": (
        """
        import functools
        class C:
            @functools.singledispatchmethod
            def m(self, x): return 'object'
            @m.register
            def _(self, x: int): return 'int'
        f = C().m
        """,
        3,
        "int",
    ),
    "a decorated function": (
        """
        import functools
        def twice(g):
            @functools.wraps(g)
            def inner(x): return g(g(x))
            return inner
        @twice
        def f(x): return x + 1
        """,
        3,
        5,
    ),
    "defaults and keyword-only defaults": (
        "def f(x, y=2, *, z=3): return x * y * z",
        3,
        18,
    ),
    "a function with attributes": (
        """
        def f(x): return f.n
        f.n = 9
        """,
        3,
        9,
    ),
    "a global that is rebound in the function": (
        """
        n = 1
        def f(x):
            global n
            n += x
            return n
        """,
        3,
        4,
    ),
    "globals and an imported module": (
        """
        import json, math
        k = {'a': 1}
        def f(x): return json.dumps(k), math.floor(x)
        """,
        3,
        ('{"a": 1}', 3),
    ),
    "a submodule": (
        """
        import xml.etree.ElementTree
        def f(x): return xml.etree.ElementTree.fromstring('<a/>').tag
        """,
        3,
        "a",
    ),
    "a function of a module": (
        "from textwrap import dedent as f",
        "  a",
        "a",
    ),
    "a builtin": (
        "f = abs",
        -3,
        3,
    ),
    "a method of a builtin": (
        "f = 'abc'.index",
        "c",
        2,
    ),
    "a logger": (
        """
        import logging
        log = logging.getLogger('x')
        def f(x): return log.name
        """,
        3,
        "x",
    ),
    "a comprehension over a global": (
        """
        ks = (1, 2)
        def f(x): return [k * x for k in ks]
        """,
        3,
        [3, 6],
    ),
    "an async comprehension": (
        """
        async def gen(n):
            for i in range(n): yield i
        async def f(n): return [i async for i in gen(n)]
        """,
        3,
        [0, 1, 2],
    ),
    "a dataclass with slots": (
        """
        import dataclasses
        @dataclasses.dataclass(slots=True, frozen=True)
        class P:
            x: int = 0
        def f(x): return dataclasses.replace(P(), x=x).x
        """,
        3,
        3,
    ),
    "an enum": (
        """
        import enum
        class E(enum.Enum):
            A = 1
            B = 3
        def f(x): return E(x).name
        """,
        3,
        "B",
    ),
    "a generic class": (
        """
        from typing import Generic, TypeVar
        T = TypeVar('T')
        class Box(Generic[T]):
            def __init__(self, v: T): self.v = v
        def f(x): return Box[int](x).v
        """,
        3,
        3,
    ),
    "an abstract base class": (
        """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def m(self): ...
        class B(A):
            def m(self): return 'b'
        def f(x): return B().m(), isinstance(B(), A)
        """,
        3,
        ("b", True),
    ),
    "a pydantic model": (
        """
        import pydantic
        class M(pydantic.BaseModel):
            x: int
            @pydantic.field_validator('x')
            @classmethod
            def v(cls, x): return x * 2
        def f(x): return M(x=x).model_dump()
        """,
        "3",
        {"x": 6},
    ),
    "a thread-local": (
        """
        import threading
        local = threading.local()
        def f(x):
            local.n = getattr(local, 'n', 0) + x
            return local.n
        """,
        3,
        3,
    ),
    "the standard output": (
        """
        import sys
        out = sys.__stdout__
        def f(x): return x
        """,
        3,
        3,
    ),
    "a class whose base wants arguments of it": (
        """
        registry = []
        class Base:
            def __init_subclass__(cls, *, tag, **rest):
                super().__init_subclass__(**rest)
                cls.tag = tag
                registry.append(tag)
        class A(Base, tag="a"): ...
        class B(A, tag="b"): ...
        def f(x):
            class C(B, tag=x): ...
            return A.tag, B.tag, C.tag, registry
        """,
        "c",
        ("a", "b", "c", ["a", "b", "c"]),
    ),
    "annotations of a cell": (
        """
        from typing import NewType, ParamSpec, TypedDict, TypeVar, TypeVarTuple
        UserId = NewType("UserId", int)
        P, T, Ts = ParamSpec("P"), TypeVar("T"), TypeVarTuple("Ts")
        class Row(TypedDict):
            id: UserId
        def f(x: UserId) -> Row:
            return Row(id=UserId(x)), P.__name__, T.__name__, Ts.__name__, f.__annotations__["return"] is Row
        """,
        3,
        ({"id": 3}, "P", "T", "Ts", True),
    ),
}
