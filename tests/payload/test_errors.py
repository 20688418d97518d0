"""Exceptions of items: the type where it can be had, the same text in any case, and nothing that hurts a loop."""

from __future__ import annotations

import asyncio
import json
import pickle
import textwrap
import traceback
import urllib.error

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopool import _payload as payload
from aiopool._payload import errors_as_data, rebuilding
from aiopool.errors import ItemExited, JobCancelled, NotPicklable, RemoteError, WorkerLost
from tests.payload.kinds_of_errors import ERRORS


def round_trip(error: BaseException) -> BaseException:
    """As if a worker had told it."""
    return payload.load_error(payload.dump_error(error))


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The same, with a traceback."""
    try:
        raise error from cause
    except BaseException as caught:  # noqa: BLE001
        return caught


@pytest.mark.parametrize("kind", ERRORS)
def test_an_exception_of_this_kind_comes_back(kind, notebook, child):
    """Raised in a worker, it is the same type with the same text and attributes here, or a RemoteError."""
    definitions, does, holds = ERRORS[kind]
    notebook.cell(definitions)
    notebook.cell("def f(x):\n" + textwrap.indent(textwrap.dedent(does).strip("\n"), "    "))
    error = child.failure(notebook["f"])
    assert eval(holds, {**notebook.names, "error": error, "RemoteError": RemoteError}), repr(error)
    assert ", in f\n" in "".join(traceback.format_exception(error))


EXITS = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    asyncio.CancelledError("c"),
    StopIteration(5),
    StopAsyncIteration(),
    type("MyExit", (SystemExit,), {"__module__": "__main__"})("bye"),
    type("MyCancel", (ValueError, asyncio.CancelledError), {"__module__": "__main__"})("c"),
]


@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_what_would_end_or_confuse_a_loop_comes_wrapped(error):
    """Raw, or as a subclass, or in a group: never raised as it is."""
    name = type(error).__name__
    module = "asyncio.exceptions." if type(error) is asyncio.CancelledError else ""
    told = f"the item raised {module}{name}{f': {error}' if str(error) else ''}"
    wrapped = round_trip(raised(error))
    assert type(wrapped) is ItemExited
    assert str(wrapped) == told
    assert wrapped.type_name.endswith(name)
    assert wrapped.traceback_text.startswith("Traceback (most recent call last):\n")
    group = round_trip(raised(BaseExceptionGroup("g", [error, ValueError(1)])))
    assert [str(member) for member in group.exceptions] == [told, "1"]
    assert isinstance(group, ExceptionGroup)


def test_causes_contexts_notes_and_suppression_come_along():
    """The chain is what it was; so a traceback reads the same."""
    try:
        try:
            {}["key"]
        except KeyError as error:
            error.add_note("note of the cause")
            raise ValueError("outer") from error
    except ValueError as error:
        error.add_note("one")
        error.add_note("two")
        original = error
    again = round_trip(original)
    assert again.__notes__ == ["one", "two"]
    assert type(again.__cause__) is KeyError
    assert again.__cause__.__notes__ == ["note of the cause"]
    assert again.__cause__ is again.__context__
    assert again.__suppress_context__
    assert traceback.format_exception(again) == traceback.format_exception(original)
    assert "".join(traceback.format_exception(original)) == _text(original)


def test_what_travelled_but_refuses_here_is_never_raised():
    """A type whose attributes may not be looked at gets its notes and frames all the same."""

    class Sealed(Exception):
        def __getattribute__(self, name):
            raise KeyboardInterrupt(name)

        def __setattr__(self, name, value):
            raise SystemExit(name)

    error = raised(Sealed(1))
    object.__setattr__(error, "__notes__", ["a note"])
    again = round_trip(raised(ValueError("outer"), cause=error))
    assert type(again) is ValueError
    told = errors_as_data.Told("Sealed", "1", exited=False, way="bare", pickled=_bare(Sealed), notes=("a note",))
    sealed = payload.load_error(pickle.dumps(([told], "t")))
    assert type(sealed) is Sealed
    assert object.__getattribute__(sealed, "__notes__") == ["a note"]


def _bare(kind: type) -> bytes:
    return rebuilding._dumps((kind, (1,), {}))


def _text(error: BaseException) -> str:
    return pickle.loads(payload.dump_error(error))[1]


@pytest.mark.parametrize("suppress", [True, False])
def test_from_none_hides_the_context_here_too(suppress):
    """And without it the context is shown."""
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            if suppress:
                raise ValueError("outer") from None
            raise ValueError("outer")  # noqa: B904
    except ValueError as error:
        original = error
    again = round_trip(original)
    assert again.__suppress_context__ == suppress
    assert ("KeyError" in "".join(traceback.format_exception(again))) != suppress


def test_the_members_of_a_group_come_along(notebook, child):
    """With their own tracebacks, notes and causes; nested; and of a user's own group type."""
    notebook.cell(
        """
        class Problems(ExceptionGroup):
            def __init__(self, message, members): self.count = len(members)
            def derive(self, members): return Problems(self.message, members)
        class E(Exception): ...
        def fail(error):
            try: raise error
            except Exception as e: return e
        def f(x):
            inner = ExceptionGroup("inner", [fail(E(1)), fail(KeyError(2))])
            raise Problems("outer", [fail(inner), fail(OSError(2, "no", "file"))])
        """
    )
    error = child.failure(notebook["f"])
    assert type(error) is notebook["Problems"]
    assert (error.message, error.count) == ("outer", 2)
    inner, os_error = error.exceptions
    assert [type(each) for each in inner.exceptions] == [notebook["E"], KeyError]
    assert os_error.filename == "file"
    assert all(each.__traceback__ is not None for each in (inner, os_error, *inner.exceptions))
    assert error.split(KeyError)[0] is not None


def test_an_exception_that_cannot_travel_says_the_same_as_a_remote_error(notebook, child):
    """Type name, message, formatted traceback; its frames are real."""
    notebook.cell(
        """
        class E(Exception):
            def __init__(self): self.tries = 0
            def __str__(self):
                self.tries += 1
                return f"tried {self.tries} times"
        def f(x):
            raise E
        """
    )
    error = child.failure(notebook["f"])
    assert type(error) is RemoteError
    assert str(error) == "E: tried 1 times"
    assert error.type_name == "E"
    assert "    raise E\n" in error.traceback_text
    assert "    raise E\n" in "".join(traceback.format_exception(error))


HOSTILE = {
    "raises in whatever looks at it": """
        class Hostile(Exception):
            def __str__(self): raise SystemExit("str")
            def __repr__(self): raise SystemExit("repr")
            def __reduce_ex__(self, protocol): raise GeneratorExit
            def __getattribute__(self, name): raise KeyboardInterrupt(name)
            def __setattr__(self, name, value): raise ValueError(name)
        """,
    "its class cannot be looked at": """
        class Meta(type):
            def __getattribute__(cls, name): raise SystemExit(name)
        class Hostile(Exception, metaclass=Meta): ...
        """,
    "its class is equal to nothing": """
        class Meta(type):
            def __eq__(cls, other): raise SystemExit("eq")
            def __hash__(cls): raise SystemExit("hash")
        class Hostile(Exception, metaclass=Meta): ...
        """,
    "lies about its notes and links": """
        class Hostile(Exception):
            __notes__ = 5
            __cause__ = property(lambda self: 1 / 0)
            __context__ = "no exception"
            __traceback__ = None
        """,
    "recurses": """
        class Hostile(Exception):
            def __str__(self): return str(self)
            def __reduce__(self): return self.__reduce__()
        """,
}


@pytest.mark.parametrize(
    "how", ["raise Hostile(1)", "raise ValueError(1) from Hostile(1)", "raise ExceptionGroup('g', [Hostile(1)])"]
)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_exception_is_told_all_the_same(kind, how, notebook, child):
    """Telling and rebuilding never raise; the name and the place are known, and the worker goes on."""
    body = textwrap.indent(textwrap.dedent(HOSTILE[kind]), "    ")
    notebook.cell(f"def f(x):\n{body}\n    {how}\ndef g(x): return x")
    error = child.failure(notebook["f"])
    if "from" in how:
        assert type(error) is ValueError
        assert error.__cause__ is not None
    elif "Group" in how:
        assert len(error.exceptions) == 1
    else:
        assert "Hostile" in type(error).__qualname__ + str(error)
    assert ", in f\n" in "".join(traceback.format_tb(_links["__traceback__"].__get__(error)))
    assert child.run(notebook["g"], 1) == [1]


_links = vars(BaseException)


def test_a_chain_of_200_000_causes_is_cut_at_twenty():
    """In no time, and without touching the exceptions."""
    root = error = ValueError(0)
    for number in range(1, 200_000):
        error.__cause__ = error.__context__ = ValueError(number)
        error = error.__cause__
    data = payload.dump_error(root)
    assert len(data) < 100_000
    again, length = payload.load_error(data), 0
    while again.__cause__ is not None:
        again = again.__cause__
        length += 1
    assert (length, again.args) == (20, (20,))
    twentieth = root
    for _ in range(20):
        twentieth = twentieth.__cause__
    assert twentieth.__cause__.args == (21,)
    assert twentieth.__suppress_context__
    while root is not None:  # Else they are torn down by recursion.
        root.__context__, root.__cause__, root = None, None, root.__cause__


def test_a_chain_that_bites_its_tail_comes_back_as_such():
    """Python itself avoids this, users do not."""
    one, two = ValueError(1), ValueError(2)
    one.__cause__, two.__context__ = two, one
    again = round_trip(one)
    assert again.__cause__.__context__ is again


def test_a_group_of_ten_thousand_is_told_in_part():
    """And says how many stayed behind."""
    again = round_trip(raised(ExceptionGroup("many", [ValueError(n) for n in range(10_000)])))
    assert len(again.exceptions) == 255
    assert again.__notes__ == ["(9,745 more exceptions of this group stayed in the worker)"]


def test_a_group_nested_a_thousand_deep_is_told_in_part():
    """Recursion in our way of telling it must not be what is told."""
    error: Exception = ValueError("x")
    for _ in range(2000):
        error = ExceptionGroup("deeper", [error])
    again = round_trip(error)
    assert isinstance(again, ExceptionGroup | RemoteError)
    assert "deeper" in str(again)


def test_a_recursion_error_shows_both_ends(notebook, child):
    """A thousand equal lines say nothing."""
    notebook.cell("def down(n): return down(n + 1)\ndef f(x): return down(0)")
    error = child.failure(notebook["f"])
    assert type(error) is RecursionError
    frames = traceback.extract_tb(error.__traceback__)
    assert len(frames) == 200
    assert frames[-1].name == "down"
    assert "f" in [frame.name for frame in frames[:5]]


def test_huge_texts_are_cut_at_64_kibibytes():
    """Of messages, notes and formatted tracebacks both ends stay."""
    error = ValueError("a" + "x" * 10_000_000 + "z")
    error.add_note("n" * 1_000_000)
    data = payload.dump_error(raised(error))
    assert len(data) < 400_000
    text = _text(error)
    assert len(text) < 66_000
    assert "characters left out" in text


def test_data_that_is_damaged_or_does_not_load_here_is_a_remote_error():
    """The kernel learns that the item failed, and what of it is known."""
    assert type(payload.load_error(b"no pickle")) is RemoteError
    again = payload.load_error(
        pickle.dumps(([errors_as_data.Told("E", "x", exited=False, way="pickle", pickled=b"?")], "t"))
    )
    assert (type(again), str(again), again.traceback_text) == (RemoteError, "E: x", "t")


def test_an_error_of_ours_that_was_caused_by_a_users_keeps_its_cause(notebook, child):
    """A result that cannot travel shows why."""
    notebook.cell("class C:\n    def __reduce__(self):\n        raise ValueError('why')\ndef f(x): return C()")
    error = child.failure(notebook["f"])
    assert type(error) is NotPicklable
    assert str(error.__cause__) == "why"
    assert traceback.extract_tb(error.__cause__.__traceback__)[-1].line == "raise ValueError('why')"


@settings(deadline=None)
@given(
    st.sampled_from([ValueError, KeyError, OSError, RuntimeError, JobCancelled, UnicodeError, LookupError]),
    st.lists(st.one_of(st.text(), st.integers(), st.none(), st.binary()), max_size=3),
    st.lists(st.text(), max_size=2),
)
def test_any_arguments_and_notes_survive(kind, arguments, notes):
    """Whatever an exception was made of."""
    error = kind(*arguments)
    for note in notes:
        error.add_note(note)
    again = round_trip(error)
    assert type(again) is type(error)
    assert again.args == error.args
    assert getattr(again, "__notes__", []) == notes


def test_popular_exceptions_keep_their_types():
    """A few that others' pools lose."""
    errors = [
        json.JSONDecodeError("m", "doc", 1),
        urllib.error.HTTPError("http://x", 500, "m", None, None),
        WorkerLost("m", 1, 2, "s"),
        UnicodeEncodeError("ascii", "é", 0, 1, "r"),
        TimeoutError(),
    ]
    assert [type(round_trip(error)) for error in errors] == [type(error) for error in errors]
