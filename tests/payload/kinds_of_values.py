"""Classes of cells: each cell makes an instance `v` of the class that is named; or an enum `E` with A and B."""

from __future__ import annotations

VALUES = {
    "a dataclass": (
        """
        from dataclasses import dataclass
        @dataclass
        class P:
            x: int
        v = P(1)
        """,
        "P",
    ),
    "a frozen dataclass with slots": (
        """
        from dataclasses import dataclass
        @dataclass(frozen=True, slots=True)
        class P:
            x: int
        v = P(1)
        """,
        "P",
    ),
    "a named tuple": (
        """
        from typing import NamedTuple
        class P(NamedTuple):
            x: int
        v = P(1)
        """,
        "P",
    ),
    "a named tuple of collections": (
        """
        import collections
        P = collections.namedtuple('P', 'x')
        v = P(1)
        """,
        "P",
    ),
    "a nested class": (
        """
        class Outer:
            class Inner:
                def __eq__(self, other): return type(self) is type(other)
        P = Outer.Inner
        v = P()
        """,
        "P",
    ),
    "a pydantic model": (
        """
        import pydantic
        class P(pydantic.BaseModel):
            x: int
        v = P(x=1)
        """,
        "P",
    ),
    "a pydantic model of models": (
        """
        import pydantic
        class Q(pydantic.BaseModel):
            x: int
        class P(pydantic.BaseModel):
            qs: list[Q]
        v = P(qs=[Q(x=1)])
        """,
        "P",
    ),
    "a subclass": (
        """
        class Base:
            def __eq__(self, o): return vars(self) == vars(o)
        class P(Base):
            def __init__(self): super().__init__(); self.x = 1
        v = P()
        """,
        "P",
    ),
    "a class whose base uses it": (
        """
        class Base:
            def make(self): return P()
            def __eq__(self, o): return type(self) is type(o)
        class P(Base): ...
        v = P().make()
        """,
        "P",
    ),
    "a class with a metaclass": (
        """
        class Meta(type):
            def __call__(cls, *a): o = super().__call__(*a); o.x = 1; return o
        class P(metaclass=Meta):
            def __eq__(self, o): return vars(self) == vars(o)
        v = P()
        """,
        "P",
    ),
    "an abstract base": (
        """
        import abc
        class A(abc.ABC):
            @abc.abstractmethod
            def m(self): ...
        class P(A):
            def m(self): ...
            def __eq__(self, o): return isinstance(o, A)
        v = P()
        """,
        "P",
    ),
    "a generic": (
        """
        from typing import Generic, TypeVar
        T = TypeVar('T')
        class P(Generic[T]):
            def __eq__(self, o): return type(self) is type(o)
        v = P[int]()
        """,
        "P",
    ),
    "an exception": (
        """
        class P(Exception):
            def __eq__(self, o): return self.args == o.args
        v = P(1, 2)
        """,
        "P",
    ),
    "a subclass of a list": (
        """
        class P(list):
            n = 1
        v = P([1, 2])
        """,
        "P",
    ),
    "a class with state methods": (
        """
        class P:
            def __init__(self, x): self.x = x
            def __getstate__(self): return (self.x,)
            def __setstate__(self, s): self.x = s[0]
            def __eq__(self, o): return self.x == o.x
        v = P(3)
        """,
        "P",
    ),
    "a protocol's class": (
        """
        from typing import Protocol
        class Q(Protocol):
            def m(self) -> int: ...
        class P(Q):
            def m(self): return 1
            def __eq__(self, o): return self.m() == o.m()
        v = P()
        """,
        "P",
    ),
}

MEMBERS = {
    "an enum": """
        import enum
        class E(enum.Enum):
            A = 1
            B = 'b'
        """,
    "an int enum": """
        import enum
        class E(enum.IntEnum):
            A = 1
            B = 2
        """,
    "a string enum": """
        import enum
        class E(enum.StrEnum):
            A = enum.auto()
            B = enum.auto()
        """,
    "flags": """
        import enum
        class E(enum.Flag):
            A = enum.auto()
            B = enum.auto()
        """,
    "an enum with methods": """
        import enum
        class E(enum.Enum):
            A = 1
            B = 2
            def next(self): return E.B
            @property
            def twice(self): return self.value * 2
        """,
    "an enum of dataclasses": """
        import enum
        from dataclasses import dataclass
        @dataclass(frozen=True)
        class D:
            x: int
        class E(enum.Enum):
            A = D(1)
            B = D(2)
        """,
    "a nested enum": """
        import enum
        class Outer:
            class E(enum.Enum):
                A = 1
                B = 2
        E = Outer.E
        """,
}
