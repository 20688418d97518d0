"""How a job is opened: from a function, an input and options to what the pool's thread runs and the user holds."""

from __future__ import annotations

import functools
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from aiopool import _payload
from aiopool._core.frames import Function
from aiopool._payload.puts import Store
from aiopool._runtime.calls import Call, Shape
from aiopool._runtime.driver import Driver
from aiopool._runtime.labelling import Labels
from aiopool._runtime.lending import Lending
from aiopool._runtime.recoder import Encode
from aiopool._runtime.results import Ending, Results
from aiopool._runtime.runs import JobSpec
from aiopool._runtime.sources import Source, chosen
from aiopool.errors import InputError, ItemTimeout, OptionError
from aiopool.job import Handle, Job
from aiopool.labels import label as default_label
from aiopool.labels import make_label
from aiopool.options import MapOptions, OnError, Progress, default_concurrency
from aiopool.registry import registry
from aiopool.submitted import Submitted
from aiopool.surfaces import Surface, new_surface
from aiopool.terminal import TerminalSurface

__all__ = ["Opening", "dumped", "must_be_function", "promise"]

_FLAGS_OF_CALL = int(Function.CALL | Function.ONCE)
_FLAGS_OF_ASYNC_CALL = _FLAGS_OF_CALL | Function.ASYNC


class Opening:
    """Opens the jobs of one pool, which may have ``size()`` workers now and raises in ``must_be_open`` once closed."""

    def __init__(self, driver: Driver, *, size: Callable[[], int], must_be_open: Callable[[], None]) -> None:
        self._driver = driver
        self._size = size
        self._must_be_open = must_be_open
        self._shape: Shape | None = None

    def map(
        self,
        fn: Callable[..., Any],
        function: _payload.FunctionBlob,
        source: Source,
        options: MapOptions,
        *,
        zipped: bool,
        once: bool = False,
        have: Mapping[int, object] | None = None,
        total: int | None = None,
    ) -> Job[Any]:
        """A job over a source; a retry also ``have``s the values that there are, of ``total`` items.

        ``once``: the source has one item, and its user knows a single call, and waits for its value.
        ``function`` is ``fn`` as it was when it was dumped: a retry that changes nothing runs that again.
        """
        concurrency = self._concurrency(options, function)
        name = options.desc or function.name
        spec = JobSpec(
            name=name,
            function=function.data,
            refs=function.refs,
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
            surface=self._surface(name, progress=options.progress, as_one=once),
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
                once=once,
                have=have,
                total=len(missing) + len(have),
            )

        results = self._results(source.size if total is None else total, have)
        results.expected = options.total
        return self._open(
            spec,
            results,
            source.feed,
            on_error=options.on_error,
            again=again,
            label=_nothing if once else options.label,
            is_single=once,
            detach=options.detach,
            call="" if once else _call(fn, function, unpacks=options.unpack or zipped),
        )

    def submit(self, function: _payload.FunctionBlob, call: tuple[tuple[Any, ...], dict[str, Any]]) -> Job[Any]:
        """A job of one item: one call, at most once."""
        encoded = self._encoded(call, function)
        surface = self._surface_of_call(function.name)
        if surface is None and not function.refs and (data := encoded.only) is not None:
            return self._submit(function, call, data)
        spec = self._spec_of_call(function, call, encoded, surface or TerminalSurface(function.name, as_one=True))
        again = self._again_of_call(function, call)
        return self._open(spec, Results(1), None, on_error="raise", again=again, label=_arguments, told=_told_arguments)

    def _submit(
        self, function: _payload.FunctionBlob, arguments: tuple[tuple[Any, ...], dict[str, Any]], data: bytes
    ) -> Job[Any]:
        """The same, of which nothing is to be seen while it runs: made of as little as can be."""
        self._must_be_open()
        shape = self._shape
        if shape is None or shape.function is not function:
            shape = self._shape = self._shape_of(function)
        call = Call(shape, arguments, data)
        job: Job[Any] = Submitted(call)
        try:
            registry.hold(job, call)
            self._driver.submit(call)
            registry.last = job
        except BaseException:
            # As in :meth:`_open`. It may never have come to the pool's thread, and somebody may have seen it.
            self._driver.cancel(call.id, stopped=True)
            call.results.end(Ending("stopped"))
            raise
        return job

    def _shape_of(self, function: _payload.FunctionBlob) -> Shape:
        """What its calls have in common. Thousands of calls of one function follow each other."""

        def spec_of(call: Call) -> JobSpec:
            encoded = _payload.EncodedItems(b"", (call.data,), ())
            surface = TerminalSurface(function.name, as_one=True)
            return self._spec_of_call(function, call.arguments, encoded, surface)

        def fit_out(call: Call, results: Results) -> None:
            arguments = call.arguments
            results.labels = Labels(lambda _: arguments, _told_arguments)

        def job_of(call: Call) -> Job[Any]:
            results, arguments = call.results, call.arguments
            return Job(
                self._driver,
                call.id,
                function.name,
                results,
                on_error="raise",
                is_single=True,
                value_of=lambda _: arguments,
                label_of=results.labels.of,
                started=call.started,
                again=self._again_of_call(function, arguments),
            )

        flags = _FLAGS_OF_ASYNC_CALL if function.is_async else _FLAGS_OF_CALL
        return Shape(
            function,
            function.name,
            function.data,
            flags,
            _kind(function),
            spec_of,
            fit_out,
            job_of,
            self._driver.must_not_block,
        )

    def _spec_of_call(
        self,
        function: _payload.FunctionBlob,
        call: tuple[tuple[Any, ...], dict[str, Any]],
        encoded: _payload.EncodedItems,
        surface: Surface,
    ) -> JobSpec:
        return JobSpec(
            name=function.name,
            function=function.data,
            refs=function.refs,
            flags=_FLAGS_OF_ASYNC_CALL if function.is_async else _FLAGS_OF_CALL,
            kind=_kind(function),
            size=1,
            concurrency=1,
            encode=self.encoding(function),
            value_of=lambda _: call,
            rerun_lost=False,
            single=True,
            brought=(((0,), encoded),),
            surface=surface,
        )

    def _again_of_call(
        self, function: _payload.FunctionBlob, call: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> Callable[..., Job[Any]]:
        def again(fn: Callable[..., Any] | None, changed: Mapping[str, Any], *_: object) -> Job[Any]:
            if changed:
                raise OptionError("a submit has no options; for options map over one item")
            return self.submit(function if fn is None else self.dumped(fn), call)

        return again

    def broadcast(
        self, function: _payload.FunctionBlob, size: int, *, keep: bool = False, key: bytes = b""
    ) -> Job[Any]:
        """A job of one call for each of ``size`` workers, and, with ``keep``, of all that start later."""
        call = _payload.dump_items((((), {}),))
        spec = JobSpec(
            name=function.name,
            function=function.data,
            refs=function.refs,
            encode=self.encoding(function),
            flags=Function.CALL | _flags(function) | (Function.NEVER_AGAIN if keep else 0),
            kind=_kind(function),
            size=size,
            concurrency=size,
            pinned=True,
            # Whoever took the place of a worker that it has killed would run it before its first item, and die, too.
            rerun_lost=not keep,
            value_of=lambda _: (),
            brought=[((index,), call) for index in range(size)],
            surface=self._surface(function.name, progress=True, of_call=True, as_one=True),
            stays=keep,
            key=key,
        )
        # What has a key is a cell, and no function that anybody could call.
        written = function.name if key else f"{function.name}()"
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
        told: Callable[[Any], str] | None = None,
        is_single: bool = False,
        detach: bool = False,
        call: str = "",
    ) -> Job[Any]:
        self._must_be_open()
        results.named_by = spec.encode
        labels = results.labels = Labels(
            spec.value_of,
            told or (make_label(label) if label is not None else default_label),
            is_own=label is not None and not (spec.single or spec.pinned),
        )
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
                is_single=spec.single or is_single,
                value_of=spec.value_of,
                label_of=labels.of,
                started=started,
                again=again,
                owner=None if detach or spec.surface is None else spec.surface.owner,
                call=call,
                labelled=label is not None,
            )
            self._register(job, results)
            if spec.surface is not None:
                spec.surface.hold(job)
        except BaseException:
            # Stop may come at any line; a job that nobody holds must not run on.
            driver.cancel(number, stopped=True)
            raise
        return job

    # --- other where the workers are not processes -----------------------------------------------------------------

    def dumped(self, fn: Any, retry_on: tuple[type[Exception], ...] | None = None) -> _payload.FunctionBlob:
        """The function on its way to a worker; raises for what is not a function, and what cannot travel."""
        return dumped(fn, retry_on, self._lending.puts.store)

    def encoding(self, function: _payload.FunctionBlob) -> Encode:
        """How arguments for this function travel."""
        lending = self._lending
        return functools.partial(
            _payload.dump_items, function=function, pages=lending.arguments, store=lending.puts.store
        )

    def _encoded(
        self, call: tuple[tuple[Any, ...], dict[str, Any]], function: _payload.FunctionBlob
    ) -> _payload.EncodedItems:
        """The arguments of one call, on their way."""
        return _payload.dump_plain_call(call) or self.encoding(function)((call,))

    @property
    def _lending(self) -> Lending:
        return self._driver.lending

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

    def _surface(self, name: str, *, progress: Progress, of_call: bool = False, as_one: bool = False) -> Surface:
        surface = new_surface(name, progress=progress, of_call=of_call, as_one=as_one)
        return surface or TerminalSurface.of(name, progress=progress, of_call=of_call, as_one=as_one)

    def _surface_of_call(self, name: str) -> Surface | None:
        """What shows a call while it runs, None: nothing does."""
        return new_surface(name, progress=True, of_call=True, as_one=True)

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


def dumped(
    fn: Any, retry_on: tuple[type[Exception], ...] | None = None, store: Store | None = None
) -> _payload.FunctionBlob:
    """The function as it is now, pickled; raises for what is not a function, and what cannot travel.

    ``retry_on`` travels with it: a worker must know an exception class of a cell by the function's own copy of it.
    Without a ``store`` it takes everything along that it uses, and can be kept for workers that start much later.
    """
    return _payload.dump_function(must_be_function(fn), retry_on, store)


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


_told_arguments = make_label(cast("Callable[[object], str]", _arguments))


def _call(fn: Any, function: _payload.FunctionBlob, *, unpacks: bool) -> str:
    """How one item is tried in the notebook, with ``{}`` for its input; empty where the function has no name there."""
    name = function.name
    if not name.isidentifier() or not (inspect.isroutine(fn) or inspect.isclass(fn)):
        return ""  # A partial, an object, a lambda.
    names, module = vars(sys.modules["__main__"]), str(getattr(fn, "__module__", "")).rpartition(".")[2]
    if names.get(name) is not fn and inspect.ismodule(names.get(module)):
        name = f"{module}.{name}"
    return f"{'await ' if function.is_async else ''}{name}({'*' if unpacks else ''}{{}})"


def _nothing(_: object) -> str:
    return ""


def _no_retry(*_: object) -> Job[Any]:
    raise OptionError("this cannot be retried: call it again")
