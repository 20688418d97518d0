"""What an item returned, on its way home. Classes of the notebook are only named, so its own stay as they are."""

from __future__ import annotations

import inspect
import io
import pickle

from aiopool._payload import parcels
from aiopool._payload.classes import HomewardPickler
from aiopool._payload.culprits import blame_result
from aiopool._payload.errors_as_data import EXITS
from aiopool._payload.loading import is_simple
from aiopool._payload.parcels import Buffers, Parcel
from aiopool.errors import ItemExited

__all__ = ["dump_value", "load_value"]


def dump_value(value: object) -> bytes:
    """Pickle a result in the worker. Whatever goes wrong in it comes out as ``NotPicklable``."""
    if is_simple(value):
        return pickle.dumps(value, protocol=5)
    stream = io.BytesIO()
    pages = parcels.results
    buffers = None if pages is None else Buffers()
    try:
        HomewardPickler(stream, buffers).dump(value)
        if pages is not None and buffers is not None and buffers.taken:
            packed = buffers.pack(stream.getvalue(), pages)
            if packed is not None:
                return packed
            stream = io.BytesIO()
            HomewardPickler(stream).dump(value)
    except BaseException as error:  # noqa: BLE001 - a user's __reduce__ may raise anything; it is this item's failure
        refusal = blame_result(value, error, lambda part: HomewardPickler(io.BytesIO()).dump(part))
        if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
            value.close()  # The message says that it was not awaited; a warning at some later moment adds nothing.
        raise refusal from refusal.__cause__
    return stream.getvalue()


def load_value(data: bytes | memoryview | Parcel) -> object:
    """Make a result in the kernel. What the loading raises is raised, except that nothing may end the kernel's loop."""
    try:
        if isinstance(data, Parcel):
            return data.load()
        return pickle.loads(data)  # noqa: S301 - bytes of our own worker, over an inherited pipe
    except KeyboardInterrupt:
        raise
    except EXITS as error:
        name = type(error).__name__
        raise ItemExited(f"loading the result raised {name}: {error}", name) from error
