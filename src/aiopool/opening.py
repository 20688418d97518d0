"""How a job is opened: from a function, an input and options to what the pool's thread runs and the user holds."""

from __future__ import annotations

import functools
import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from aiopool import _payload
from aiopool._core.frames import Function
from aiopool._runtime.driver import Driver
from aiopool._runtime.feeder import Encode
from aiopool._runtime.results import Results
from aiopool._runtime.runs import JobSpec
from aiopool._runtime.sources import Source, chosen
from aiopool.errors import InputError, ItemTimeout, OptionError
from aiopool.job import Handle, Job
from aiopool.labels import label as default_label
from aiopool.labels import make_label
from aiopool.options import MapOptions, OnError, Progress, default_concurrency
from aiopool.registry import registry
from aiopool.telemetry import Surface, new_surface
from aiopool.terminal import TerminalSurface

__all__ = ["Opening", "dumped", "must_be_function", "promise"]


class Opening:
    """Opens the jobs of one pool, which may have ``size()`` workers now and raises in ``must_be_open`` once closed."""

    def __init__(self, driver: Driver, *, size: Callable[[], int], must_be_open: Callable[[], None]) -> None:
        self._driver = driver
        self._size = size
        self._must_be_open = must_be_open

    def map(
        self,
        fn: Callable[..., Any],
        function: _payload.FunctionBlob,
        source: Source,
        options: MapOptions,
        *,
        zipped: bool,
        have: Mapping[int, object] | None = None,
        total: int | None = None,
    ) -> Job[Any]:
        """A job over a source; a retry also ``have``s the values that there are, of ``total`` items.

        ``function`` is ``fn`` as it was when it was dumped: a retry that changes nothing runs that again.
        """
        concurrency = self._concurrency(options, function)
        name = options.desc or function.name
        spec = JobSpec(
            name=name,
            function=function.data,
            encode=self.encoding(function),
            flags=_flags(function)
            | (Function.UNPACK if options.unpack or zipped else 0)
            | (0 if options.rerun_lost else Function.NEVER_AGAIN),
            kind=_kind(function),
            size=source.size,
            concurrency=concurrency,
            batch=_batch(options),
            window=options.window or max(1000, 2 * (concurrency or 0)),
            rerun_lost=options.rerun_lost,
            stop_on_failure=options.on_error == "raise",
            timeout=options.timeout,
            retries=options.retries,
            backoff=None if options.backoff == "exponential" else options.backoff,
            retry_timeouts=issubclass(ItemTimeout, options.exceptions),
            rate=options.rate,
            settings=_settings(options),
            value_of=source.value_of,
            keep=source.keep,
            forget=source.forget,
            expected=options.total,
            surface=self._surface(name, progress=options.progress),
        )

        def again(
            mended: Callable[..., Any] | None,
            changed: Mapping[str, Any],
            missing: Sequence[int],
            have: Mapping[int, object],
        ) -> Job[Any]:
            given = {name: getattr(options, name) for name in options.__slots__} | dict(changed)
            now = MapOptions.of(given)
            as_it_was = mended is None and now.exceptions == options.exceptions
            if source.read is not None:
                # The job knows of no item behind the last that has ended.
                missing = [index for index in range(source.read()) if index not in have]
            return self.map(
                mended or fn,
                function if as_it_was else self.dumped(mended or fn, now.exceptions),
                chosen(source, missing),
                now,
                zipped=zipped,
                have=have,
                total=len(missing) + len(have),
            )

        results = self._results(source.size if total is None else total, have)
        return self._open(
            spec,
            results,
            source.feed,
            on_error=options.on_error,
            again=again,
            label=options.label,
            detach=options.detach,
        )

    def submit(self, function: _payload.FunctionBlob, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Job[Any]:
        """A job of one item: one call, at most once."""

        def again(fn: Callable[..., Any] | None, changed: Mapping[str, Any], *_: object) -> Job[Any]:
            if changed:
                raise OptionError("a submit has no options; for options map over one item")
            return self.submit(function if fn is None else self.dumped(fn), call)

        spec = JobSpec(
            name=function.name,
            function=function.data,
            encode=self.encoding(function),
            flags=Function.CALL | Function.ONCE | _flags(function),
            kind=_kind(function),
            size=1,
            concurrency=1,
            rerun_lost=False,
            single=True,
            value_of=lambda _: call,
            brought=[((0,), self.encoding(function)((call,)))],
            surface=self._surface(function.name, progress=False),
        )
        return self._open(spec, Results(1), None, on_error="raise", again=again, label=_arguments)

    def broadcast(self, function: _payload.FunctionBlob, size: int) -> Job[Any]:
        """A job of one call for each of ``size`` workers."""
        call = _payload.dump_items((((), {}),))
        spec = JobSpec(
            name=function.name,
            function=function.data,
            encode=self.encoding(function),
            flags=Function.CALL | _flags(function),
            kind=_kind(function),
            size=size,
            concurrency=size,
            pinned=True,
            value_of=lambda _: (),
            brought=[((index,), call) for index in range(size)],
            surface=self._surface(function.name, progress=False),
        )
        written = f"{function.name}()"
        return self._open(spec, Results(size), None, on_error="raise", again=_no_retry, label=lambda _: written)

    def _open(
        self,
        spec: JobSpec,
        results: Results,
        feed: Callable[..., None] | None,
        *,
        on_error: OnError,
        again: Callable[..., Job[Any]],
        label: Callable[[Any], str] | None = None,
        detach: bool = False,
    ) -> Job[Any]:
        self._must_be_open()
        labelled = make_label(label) if label is not None else default_label
        started = time.monotonic()
        driver = self._drive(results)
        number = driver.open(spec, results, feed)
        try:
            job: Job[Any] = Job(
                driver,
                number,
                spec.name,
                results,
                on_error=on_error,
                is_single=spec.single,
                value_of=spec.value_of,
                label_of=lambda index: labelled(spec.value_of(index)),
                started=started,
                again=again,
                owner=None if detach or spec.surface is None else spec.surface.owner,
            )
            self._register(job, results)
        except BaseException:
            # Stop may come at any line; a job that nobody holds must not run on.
            driver.cancel(number, stopped=True)
            raise
        return job

    # --- other where the workers are not processes -----------------------------------------------------------------

    def dumped(self, fn: Any, retry_on: tuple[type[Exception], ...] | None = None) -> _payload.FunctionBlob:
        """The function on its way to a worker; raises for what is not a function, and what cannot travel."""
        return dumped(fn, retry_on)

    def encoding(self, function: _payload.FunctionBlob) -> Encode:
        """How arguments for this function travel."""
        return functools.partial(_payload.dump_items, function=function)

    def _concurrency(self, options: MapOptions, function: _payload.FunctionBlob) -> int | None:
        # A def that says nothing runs once per worker, also when the pool is resized; see JobOpened.
        if options.concurrency is None and function.is_async:
            return default_concurrency(self._size())
        return options.concurrency

    def _results(self, size: int | None, have: Mapping[int, object] | None) -> Results:
        return Results(size, prefilled=have)

    def _drive(self, _: Results) -> Driver:
        """What runs the job of these results."""
        return self._driver

    def _surface(self, name: str, *, progress: Progress) -> Surface:
        return new_surface(name, progress) or TerminalSurface.of(name, progress)

    def _register(self, job: Job[Any], results: Results) -> None:
        registry.add(job, results)

    # ---------------------------------------------------------------------------------------------------------------

    def handle(self, name: str, results: Results) -> Handle[None]:
        """What a user awaits until something other than a job has been reached."""
        job: Job[Any] = Job(
            self._driver,
            -1,
            name,
            results,
            on_error="raise",
            is_single=True,
            value_of=lambda _: None,
            label_of=lambda _: name,
            started=time.monotonic(),
            again=_no_retry,
        )
        return cast("Handle[None]", job)


def _settings(options: MapOptions) -> bytes:
    """What a worker must know of the options; mostly nothing."""
    settings = {"timeout": options.timeout, "seed": options.seed}
    told = {name: value for name, value in settings.items() if value is not None}
    return json.dumps(told).encode() if told else b""


def _batch(options: MapOptions) -> int | None:
    # At most once means that every value is sent when it is there: in a batch, one could be lost with its worker.
    if not options.rerun_lost:
        return 1
    return None if options.batch == "auto" else options.batch


def promise() -> Results:
    """Results of one item whose value is None, to be ended when something has been reached."""
    return Results(1, prefilled={0: None})


def dumped(fn: Any, retry_on: tuple[type[Exception], ...] | None = None) -> _payload.FunctionBlob:
    """The function as it is now, pickled; raises for what is not a function, and what cannot travel.

    ``retry_on`` travels with it: a worker must know an exception class of a cell by the function's own copy of it.
    """
    return _payload.dump_function(must_be_function(fn), retry_on)


def must_be_function(fn: Any) -> Callable[..., Any]:
    """The function; raises for what is not one, saying what to write instead."""
    if not callable(fn):
        raise InputError(f"the first argument must be a function, but {_instead_of_function(fn)}")
    return cast("Callable[..., Any]", fn)


def _instead_of_function(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()  # The message says that it was not awaited; a warning at some later moment adds nothing.
        name = value.__qualname__.rpartition("<locals>.")[2]
        said = f"{name} was called, and the coroutine that it returned passed"
        return f"{said}. Pass the function itself: pmap({name}, data)"
    if isinstance(value, Iterable):
        return f"{type(value).__name__} was passed. The function comes first, and is not called: pmap(fn, data)"
    return f"{type(value).__name__} was passed. Pass the function itself, not what it returns: pmap(fn, data)"


def _flags(function: _payload.FunctionBlob) -> int:
    return Function.ASYNC if function.is_async else 0


def _kind(function: _payload.FunctionBlob) -> Literal["async", "def"]:
    return "async" if function.is_async else "def"


def _arguments(call: tuple[tuple[Any, ...], dict[str, Any]]) -> str:
    """The arguments of a submit as they stand in a call."""
    args, keywords = call
    return ", ".join([*map(default_label, args), *(f"{name}={default_label(each)}" for name, each in keywords.items())])


def _no_retry(*_: object) -> Job[Any]:
    raise OptionError("this cannot be retried: call it again")
