"""How the failures of a job are told: which item, which input, and one error for all who wait."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from aiopool import _payload, reprs
from aiopool._payload.tracebacks import without_library_frames
from aiopool._runtime.results import RawFailure, Results, harmless
from aiopool.errors import InternalError

__all__ = ["MISSING", "Failure", "Failures"]


class _Missing(enum.Enum):
    """The type of ``MISSING``: the member of an enum is one in every process, and copies and pickles to itself."""

    MISSING = "MISSING"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "MISSING"

    __str__ = __repr__


MISSING: Final = _Missing.MISSING
"""In a partial result: this item has not finished. It is false."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Failure:
    """How one item failed. With ``on_error="return"`` it stands in its item's place among the results.

    ``input`` is the item itself, MISSING where it is not kept; ``worker`` the index of the last worker that tried it,
    None if none did; ``prints`` the last 50 lines that it printed; ``label`` how the input is shown.
    """

    index: int
    input: object
    error: BaseException
    attempts: int
    worker: int | None
    prints: str
    label: str = ""

    def __repr__(self) -> str:
        # Without the input: the option label= may be there to hide it.
        text = _first_line(self.error) or repr(self.error)
        return f"Failure(item {self.index}, {text if len(text) <= 200 else text[:197] + '...'})"

    def _repr_html_(self) -> str:
        return reprs.failure_html(self)

    def _repr_pretty_(self, printer: Any, _: bool) -> None:  # noqa: FBT001 - as IPython calls it
        reprs.pretty(printer, repr(self), lambda: reprs.failure_text(self))


def _first_line(error: BaseException) -> str:
    """Of an error with a message of several lines, such as a crash, what it says first; of others nothing."""
    message = error.args[0] if error.args else None
    lines = message.strip().splitlines() if type(message) is str else []
    return f"{type(error).__name__}({lines[0]!r})" if len(lines) > 1 else ""


class Failures:
    """The failures of one job, made out of the raw ones when they are first asked for; everybody gets the same."""

    def __init__(
        self,
        results: Results,
        name: str,
        value_of: Callable[[int], object],
        label_of: Callable[[int], str],
        *,
        is_single: bool,
    ) -> None:
        self._results = results
        self._name = name
        self._value_of = value_of
        self._label_of = label_of
        self._is_single = is_single
        self._made: dict[int, Failure] = {}
        self._noted: dict[int, BaseException] = {}
        self._verdict: tuple[BaseException, TracebackType | None] | None = None

    def __contains__(self, index: int) -> bool:
        return index in self._results.failures

    def __getitem__(self, index: int) -> Failure:
        if (made := self._made.get(index)) is not None:
            return made
        raw = self._results.failures[index]
        loaded = _payload.load_error(raw.error) if isinstance(raw.error, bytes) else raw.error
        error = harmless(without_library_frames(loaded))
        label = self._shown(index)
        self._annotate(error, raw, label)
        failure = Failure(index, self.input(index), error, raw.attempts, raw.worker, raw.prints, label)
        return self._made.setdefault(index, failure)

    def all(self) -> list[Failure]:
        """Those that there are, in input order."""
        return [self[index] for index in sorted(self._results.failures.copy())]

    def label(self, index: int) -> str:
        """How the item is shown."""
        return self._label_of(index)

    def _shown(self, index: int) -> str:
        try:
            return self._label_of(index)
        except Exception:  # noqa: BLE001 - a label is a courtesy, and must not replace the error
            return ""

    def input(self, index: int) -> object:
        """The input of an item, MISSING where it is not kept."""
        try:
            return self._value_of(index)
        except Exception:  # noqa: BLE001 - an input that is not kept is no reason to lose what is told with it
            return MISSING

    def raise_verdict(self, *, of_items: bool) -> None:
        """Raise the one error that all who wait for the ended job get, if it has one.

        ``of_items``: that of the first item that failed, too.
        """
        __tracebackhide__ = True
        if self._verdict is None and (error := self._error(of_items=of_items)) is not None:
            self._verdict = (error, error.__traceback__)
        if self._verdict is not None:
            error, its_traceback = self._verdict
            # Its own traceback, without the frames of those to whom it was raised before.
            raise error.with_traceback(its_traceback)

    def _error(self, *, of_items: bool) -> BaseException | None:
        results, ending = self._results, self._results.ending
        if ending is not None and ending.error is not None:
            if ending.cause is not None:
                ending.error.__cause__ = _payload.load_error(ending.cause)
            return harmless(without_library_frames(ending.error))
        failed = ending is not None and ending.how == "failed"
        if of_items or failed:
            first = results.spoilt if results.first_failure is None else results.first_failure
            if first is not None:
                return self[first].error
        return InternalError(f"the job {self._name} failed, and no item did") if failed else None

    def _annotate(self, error: Exception, raw: RawFailure, label: str) -> None:
        """Say in a note which item this was. Once: one error may stand for many items, as when no worker starts."""
        if id(error) in self._noted:
            return
        self._noted[id(error)] = error
        parts = ["the call" if self._is_single else f"item {raw.index}"]
        if label:
            parts[0] += f" ({label})"
        if raw.worker is not None:
            parts.append(f"worker {raw.worker}" + ("" if raw.pid is None else f" (pid {raw.pid})"))
        if raw.attempts > 1:
            parts.append(f"attempt {raw.attempts}")
        # The note is a courtesy: an exception class that takes no notes must not replace the error.
        with contextlib.suppress(Exception):
            error.add_note(", ".join(parts))
