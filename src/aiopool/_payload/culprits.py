"""Who is to blame when something cannot be pickled: the name of the global, variable, attribute or key, and its type.

The pickler's own message names an inner type only ("cannot pickle 'sqlite3.Connection' object"). So each part of the
thing is tried by itself, and the search goes on inside the first one that fails. It is tried with the pickler that
failed, so what is blamed is what was refused.

What asyncio has for tasks to wait for each other can be pickled, but its copies have nothing to do with one another. It
is refused all the same, where a user's own code holds it.
"""

from __future__ import annotations

import pickle
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aiopool._payload.kinds import FUNCTION_ADVICE, INPUT_ADVICE, RESULT_ADVICE, is_bound_to_loop, kind_of, type_name
from aiopool._payload.parts import Step, is_opaque, parts
from aiopool._payload.picklers import COPIED_IN_VAIN
from aiopool._payload.tracebacks import without_library_frames
from aiopool.errors import NotPicklable

__all__ = ["blame_function", "blame_input", "blame_result", "blame_retry_on", "vain_in_function", "vain_in_input"]

_STANDARD_REFUSALS = {
    TypeError: re.compile(r"can(no|')t (pickle|serialize) ", re.IGNORECASE),
    pickle.PicklingError: re.compile(r"can(no|')t (pickle|serialize) ", re.IGNORECASE),
    RuntimeError: re.compile(r".* should only be shared between processes through inheritance"),
}

Try = Callable[[Any], object]

_MOST_TRIES = 300
_MOST_VISITS = 10_000

# The plain descriptor: a class may override this name, and raise.
_cause = BaseException.__dict__["__cause__"]


def blame_function(name: str, fn: object, error: BaseException, try_part: Try) -> NotPicklable:
    """What to raise for a function that cannot travel."""
    return _blame(f"`{name}`", fn, error, try_part, FUNCTION_ADVICE)


def blame_retry_on(classes: tuple[type[BaseException], ...], error: BaseException, try_part: Try) -> NotPicklable:
    """The same for classes of exceptions."""
    return _blame("`retry_on`", classes, error, try_part, FUNCTION_ADVICE)


def blame_input(value: object, error: BaseException, try_part: Try) -> NotPicklable:
    """The same for an argument."""
    return _blame(f"the input ({type_name(value)})", value, error, try_part, INPUT_ADVICE)


def blame_result(value: object, error: BaseException, try_part: Try) -> NotPicklable:
    """The same for a result."""
    return _blame(f"the result ({type_name(value)})", value, error, try_part, RESULT_ADVICE)


def vain_in_function(name: str, fn: object) -> NotPicklable | None:
    """What to raise for a function that holds what would be copied in vain; None if it does not hold it itself."""
    return _vain(f"`{name}`", fn, FUNCTION_ADVICE)


def vain_in_input(value: object) -> NotPicklable | None:
    """The same for an argument."""
    return _vain(f"the input ({type_name(value)})", value, INPUT_ADVICE)


def _blame(subject: str, thing: object, error: BaseException, try_part: Try, advice: Mapping[str, str]) -> NotPicklable:
    """With the error as its cause, unless its own sentence says all that the error does, and better."""
    cause = without_library_frames(error)
    if any(issubclass(type(each), RecursionError) for each in (error, _cause.__get__(error))):
        return _refusal(f"{subject} is nested too deeply to travel to another process. Make it flatter.", cause)
    reason = _reason(error)
    try:
        path = _Search(try_part).path(thing)
        sentence = _sentence(subject, path, thing, reason, advice)
        return _refusal(sentence, None if path and not reason else cause)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a thing that refuses even to be looked at
        return _refusal(f"{subject} cannot travel to another process{reason}.", cause)


def _refusal(sentence: str, cause: BaseException | None) -> NotPicklable:
    refusal = NotPicklable(sentence)
    refusal.__cause__ = cause
    return refusal


def _sentence(subject: str, path: Sequence[Step], thing: object, reason: str, advice: Mapping[str, str]) -> str:
    last = path[-1][1] if path else thing
    found = subject + ", which".join(f" {phrase}" for phrase, _ in path)
    if path:
        found += f" ({type_name(last)}), which"
    kind = kind_of(last)
    if not kind and is_bound_to_loop(last):
        kind = "loop"
    return f"{found} cannot travel to another process{reason}. {advice[kind]}"


def _reason(error: BaseException) -> str:
    """The message of a refusal that a user's own code made; the standard ones add nothing to the name and the type."""
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - a user's exception may fail in its own message
        text = "its message cannot be shown"
    if any(issubclass(type(error), kind) and said.match(text) for kind, said in _STANDARD_REFUSALS.items()):
        return ""
    return f": {type_name(error)}: {text.removesuffix('.')}" if text else f": {type_name(error)}"


# --- the search ----------------------------------------------------------------------------------------------------


class _Search:
    """Goes from part to part as long as one fails to pickle. Bounded, since each try may be as dear as the whole."""

    def __init__(self, try_part: Try) -> None:
        self._try_part = try_part
        self._tries = 0
        self._seen: dict[int, object] = {}

    def path(self, thing: object) -> list[Step]:
        found: list[Step] = []
        step = self._failing_part(thing)
        while step is not None:
            if step[0]:
                found.append(step)
            step = self._failing_part(step[1])
        return found

    def _failing_part(self, thing: object) -> Step | None:
        self._seen[id(thing)] = thing
        try:
            for phrase, part in parts(thing):
                if id(part) not in self._seen and self._fails(part):
                    return phrase, part
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - a hostile attribute ends the search; what was found so far stands
            return None
        return None

    def _fails(self, part: object) -> bool:
        self._tries += 1
        if self._tries > _MOST_TRIES:
            return False
        try:
            self._try_part(part)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - that is the question
            return True
        return False


# --- what can be pickled, in vain ----------------------------------------------------------------------------------


def _vain(subject: str, thing: object, advice: Mapping[str, str]) -> NotPicklable | None:
    try:
        path = _path_to(COPIED_IN_VAIN, thing)
        return None if path is None else _refusal(_sentence(subject, path, thing, "", advice), None)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a thing that refuses to be looked at has travelled, which is enough
        return None


def _path_to(kinds: frozenset[type], thing: object) -> Sequence[Step] | None:
    """The shortest way to a thing of these types. Not by way of a library's objects: what they need is their own."""
    seen = {id(thing): thing}
    todo: deque[tuple[tuple[Step, ...], object]] = deque([((), thing)])
    while todo and len(seen) < _MOST_VISITS:
        path, here = todo.popleft()
        if type(here) in kinds:
            return [step for step in path if step[0]]
        for phrase, part in () if is_opaque(here) else parts(here):
            if id(part) not in seen:
                seen[id(part)] = part
                todo.append(((*path, (phrase, part)), part))
    return None
