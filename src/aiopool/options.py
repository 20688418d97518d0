"""Every option and every default, in one place: frozen, validated, and helpful about near misses."""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, ParamSpec, Self, TypedDict, TypeVar

from aiopool.errors import OptionError

__all__ = ["MapOptions", "PoolOptions", "default_concurrency", "with_near_misses"]

P = ParamSpec("P")
R = TypeVar("R")

Progress = bool | Literal["text"]
OnError = Literal["raise", "return"]
Backoff = float | Literal["exponential"]
Threads = int | Literal["auto"] | None
RetryOn = type[Exception] | tuple[type[Exception], ...]

NEAR_MISSES: Mapping[str, str] = {
    "n_jobs": "configure(workers=...) or concurrency=...",
    "n_workers": "configure(workers=...) or concurrency=...",
    "num_workers": "configure(workers=...) or concurrency=...",
    "max_workers": "configure(workers=...) or concurrency=...",
    "processes": "configure(workers=...) or concurrency=...",
    "workers": "configure(workers=...) or concurrency=...",
    "threads_per_worker": "configure(threads_per_worker=...)",
    "nested_loops": "configure(nested_loops=...)",
    "reload_modules": "configure(reload_modules=...)",
    "max_tasks_per_worker": "configure(max_tasks_per_worker=...)",
    "maxtasksperchild": "configure(max_tasks_per_worker=...)",
    "max_tasks_per_child": "configure(max_tasks_per_worker=...)",
    "max_memory_per_worker": "configure(max_memory_per_worker=...)",
    "memory_limit": "configure(max_memory_per_worker=...)",
    "initializer": "Pool(initializer=...) and its map, or @aiopool.per_worker",
    "initargs": "Pool(initializer=..., initargs=...) and its map",
    "grace": "Pool(grace=...) and its map",
    "chunksize": "batch=...",
    "chunk_size": "batch=...",
    "batch_size": "batch=...",
    "buffersize": "window=...",
    "return_exceptions": 'on_error="return"',
    "max_concurrency": "concurrency=...",
    "limit": "concurrency=... or rate=...",
    "rate_limit": "rate=...",
    "retry": "retries=...",
    "max_retries": "retries=...",
    "max_attempts": "retries=..., which counts the attempts after the first",
    "attempts": "retries=..., which counts the attempts after the first",
    "tries": "retries=..., which counts the attempts after the first",
    "delay": "backoff=...",
    "timeouts": "timeout=...",
    "random_state": "seed=...",
    "prefetch": "window=...",
    "description": "desc=...",
    "title": "desc=...",
    "show_progress": "progress=...",
    "progress_bar": "progress=...",
    "background": "job = pmap(...) without await: it runs in the background",
}


POOL_NEAR_MISSES: Mapping[str, str] = {
    **dict.fromkeys(("max_workers", "n_workers", "num_workers", "n_jobs", "processes", "size"), "workers=..."),
    **dict.fromkeys(
        ("max_tasks", "max_tasks_per_child", "maxtasksperchild", "tasks_per_worker"), "max_tasks_per_worker=..."
    ),
    **dict.fromkeys(
        ("max_memory", "max_memory_per_child", "memory", "memory_limit", "memory_per_worker"),
        "max_memory_per_worker=...",
    ),
    **dict.fromkeys(("init", "initfn", "init_fn", "setup"), "initializer=..."),
    **dict.fromkeys(("args", "init_args", "initializer_args", "initializer_kwargs"), "initargs=(...)"),
    **dict.fromkeys(("threads", "num_threads", "threads_per_process"), "threads_per_worker=..."),
    "nest_asyncio": "nested_loops=True",
    "autoreload": "reload_modules=True",
}


def _refuse(name: str, value: object, must: str) -> OptionError:
    return OptionError(f"{name}={value!r}: {name} must be {must}.")


def _whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _refuse(name, value, f"a whole number, {least} or more")


def _seconds(name: str, value: object, *, zero: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _refuse(name, value, f"a number of seconds, {'0 or more' if zero else 'more than 0'}")
    if value == 0 and not zero:
        raise _refuse(name, value, "more than 0 seconds")


def _rate(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise _refuse(name, value, "a number of starts per second, more than 0")


def _function(name: str, value: object, *, must: str) -> None:
    if not callable(value):
        raise _refuse(name, value, must)


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise _refuse(name, value, "a text")


def _switch(name: str, value: object) -> None:
    _one_of(name, value, (True, False))


def _or(word: str | None, check: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """A check that lets one word pass besides."""

    def either(name: str, value: object) -> None:
        if value is word or (isinstance(value, str) and value == word):
            return
        try:
            check(name, value)
        except OptionError as error:
            # The other check ends its sentence without knowing of this one's word.
            raise OptionError(f"{str(error).removesuffix('.')}, or {word!r}.") from None

    return either


def _or_none(check: Callable[[str, object], None]) -> Callable[[str, object], None]:
    return _or(None, check)


def _exceptions(name: str, value: object) -> None:
    classes = value if isinstance(value, tuple) else (value,)
    if not classes or not all(isinstance(each, type) and issubclass(each, Exception) for each in classes):
        raise _refuse(name, value, "an exception class, or a tuple of them, such as (ConnectionError, TimeoutError)")


def _one_of(name: str, value: object, choices: tuple[object, ...]) -> None:
    if not any(value is choice or (isinstance(choice, str) and value == choice) for choice in choices):
        raise _refuse(name, value, " or ".join(repr(choice) for choice in choices))


def _closest(name: str, known: tuple[str, ...]) -> str:
    """The one that was meant, perhaps; empty if there is none like it."""
    import difflib  # only who has mistyped one waits for it

    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.75)), "")


def refuse_unknown(unknown: Mapping[str, object], known: tuple[str, ...]) -> None:
    """Raise an :class:`OptionError` for the first option that does not exist, saying what to write instead."""
    for name in unknown:
        if name in NEAR_MISSES:
            raise OptionError(f"{name} is not an option of a map; write {NEAR_MISSES[name]}")
        if close := _closest(name, known):
            raise OptionError(f"{name} is not an option of a map; did you mean {close}=...?")
        raise OptionError(
            f"{name} is not an option of a map. If it is an argument of your function, "
            f"use functools.partial(fn, {name}=...)"
        )


def with_near_misses(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Have a function refuse options that do not exist as :func:`refuse_unknown` does, not as Python does.

    Its signature stays as it is, for people and for type checkers, which find such options before anything runs.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        known = tuple(name for name in inspect.signature(function).parameters if name != "self")

        @functools.wraps(function)
        def checked(*args: P.args, **options: P.kwargs) -> R:
            __tracebackhide__ = True
            for name in options:
                if name not in known:
                    raise OptionError(f"{name} is not an option of {what}; {_instead(name, known)}")
            return function(*args, **options)

        return checked

    return decorate


def _instead(name: str, known: tuple[str, ...]) -> str:
    """What to write instead of an option of a pool that does not exist."""
    if name in POOL_NEAR_MISSES:
        return f"write {POOL_NEAR_MISSES[name]}"
    if name in ("mp_context", "context"):
        return "leave it out: every worker is a fresh process"
    if name in (field.name for field in fields(PoolOptions)):
        return f"write Pool({name}=...) and its map"
    if name in (field.name for field in fields(MapOptions)):
        return f"it is one of a map: pmap(fn, data, {name}=...)"
    if close := _closest(name, known):
        return f"did you mean {close}=...?"
    return f"there are {', '.join(known)}"


class MapKeywords(TypedDict, total=False):
    """The options of a map as keywords, for signatures: editors complete them, type checkers refuse others.

    All but ``on_error`` and ``unpack``, which say what comes out and what goes in.
    """

    concurrency: int | None
    timeout: float | None
    retries: int
    backoff: Backoff
    retry_on: RetryOn
    rate: float | None
    batch: int | Literal["auto"]
    window: int | None
    total: int | None
    label: Callable[[Any], str] | None
    seed: int | None
    rerun_lost: bool
    desc: str | None
    progress: Progress
    detach: bool


_MAP_CHECKS: Mapping[str, Callable[[str, object], None]] = {
    "concurrency": _or_none(functools.partial(_whole, least=1)),
    "timeout": _or_none(functools.partial(_seconds, zero=False)),
    "retries": functools.partial(_whole, least=0),
    "backoff": _or("exponential", functools.partial(_seconds, zero=True)),
    "retry_on": _exceptions,
    "on_error": functools.partial(_one_of, choices=("raise", "return")),
    "rate": _or_none(_rate),
    "unpack": _switch,
    "batch": _or("auto", functools.partial(_whole, least=1)),
    "window": _or_none(functools.partial(_whole, least=1)),
    "total": _or_none(functools.partial(_whole, least=0)),
    "label": _or_none(functools.partial(_function, must="a function of one item that returns a short text")),
    "seed": _or_none(functools.partial(_whole, least=0)),
    "rerun_lost": _switch,
    "desc": _or_none(_text),
    "progress": functools.partial(_one_of, choices=(True, False, "text")),
    "detach": _switch,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOptions:
    """What may be said about one job. See :func:`aiopool.pmap` for what each option means."""

    concurrency: int | None = None
    timeout: float | None = None
    retries: int = 0
    backoff: Backoff = "exponential"
    retry_on: RetryOn = Exception
    on_error: OnError = "raise"
    rate: float | None = None
    unpack: bool = False
    batch: int | Literal["auto"] = "auto"
    window: int | None = None
    total: int | None = None
    label: Callable[[Any], str] | None = None
    seed: int | None = None
    rerun_lost: bool = True
    desc: str | None = None
    progress: Progress = True
    detach: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot be, naming the option and what it must be."""
        for name, check in _MAP_CHECKS.items():
            check(name, getattr(self, name))

    @property
    def exceptions(self) -> tuple[type[Exception], ...]:
        """The classes of ``retry_on``."""
        return self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Options from keywords as a user wrote them; an unknown one raises with the right name in the message."""
        names = tuple(field.name for field in fields(cls))
        refuse_unknown({name: value for name, value in given.items() if name not in names}, names)
        return cls(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """What may be said about a pool. See :class:`aiopool.Pool` for what each option means."""

    workers: int
    engine: str = "local"
    initializer: Callable[..., object] | None = None
    initargs: tuple[Any, ...] = ()
    start_timeout: float = 60.0
    grace: float = 2.0
    threads_per_worker: Threads = "auto"
    idle_timeout: float | None = None
    nested_loops: bool = False
    reload_modules: bool = True
    max_tasks_per_worker: int | None = None
    max_memory_per_worker: int | None = None
    name: str = "pool"

    def __post_init__(self) -> None:
        """Refuse values that cannot be, naming the option and what it must be."""
        _whole("workers", self.workers, 1)
        _seconds("start_timeout", self.start_timeout, zero=False)
        _seconds("grace", self.grace, zero=True)
        _or("auto", _or_none(functools.partial(_whole, least=1)))("threads_per_worker", self.threads_per_worker)
        if self.idle_timeout is not None:
            _seconds("idle_timeout", self.idle_timeout, zero=False)
        _switch("nested_loops", self.nested_loops)
        _switch("reload_modules", self.reload_modules)
        _or_none(functools.partial(_whole, least=1))("max_tasks_per_worker", self.max_tasks_per_worker)
        _or_none(functools.partial(_whole, least=1))("max_memory_per_worker", self.max_memory_per_worker)
        if self.initializer is not None and not callable(self.initializer):
            raise _refuse("initializer", self.initializer, "a function")
        if not isinstance(self.initargs, tuple):
            raise _refuse("initargs", self.initargs, "a tuple of the initializer's arguments, such as (path,)")
        if not isinstance(self.name, str):
            raise _refuse("name", self.name, "a text")


LEAST_MEMORY = 10**7
"""In bytes. Whoever writes less has thought of another unit: no worker has so little."""

_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def bytes_of(name: str, value: float | str | None) -> int | None:
    """A size as a user writes it, in bytes: ``2e9``, ``"2 GB"``, ``"500 MiB"``."""
    if value is None:
        return None
    must = 'a number of bytes, such as 2e9, or a text such as "2 GB", 10 MB or more, or None'
    number, unit = (value, "") if not isinstance(value, str) else _split_size(value)
    try:
        if isinstance(value, bool):
            raise ValueError  # noqa: TRY004  # one refusal for all of them
        size = int(float(number) * _BYTES[unit])
    except (TypeError, ValueError, KeyError, OverflowError):
        raise _refuse(name, value, must) from None
    if size < LEAST_MEMORY:
        raise _refuse(name, value, must)
    return size


def _split_size(text: str) -> tuple[str, str]:
    number = text.strip().rstrip("BKMGTIbkmgti ").strip()
    return number, text.strip()[len(number) :].strip().upper()


def default_concurrency(workers: int) -> int:
    """Coroutines in flight over a whole job when nobody says."""
    return max(100, 4 * workers)


def cpu_limit() -> float | None:
    """The ``CPU_LIMIT`` that BinderHub and JupyterHub set in a user's container, in cores."""
    try:
        limit = float(os.environ["CPU_LIMIT"])
    except (KeyError, ValueError):
        return None
    return limit if limit > 0 else None
