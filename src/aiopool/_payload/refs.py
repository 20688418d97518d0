"""A value that was put once and is used by many items."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any, Generic, TypeVar

from aiopool._payload.classes import InputPickler, definitions, new_epoch
from aiopool._payload.culprits import blame_input, vain_in_input
from aiopool._payload.loading import load_item
from aiopool._payload.picklers import name_by_number
from aiopool._payload.puts import Flat, Store, Stored

T = TypeVar("T")


class Ref(Generic[T]):
    """What ``pool.put`` returns. Here it is ``ref.value``; in a worker the value itself stands wherever it was passed.

    It is copied when it is put: later changes of the value here do not travel. A worker loads it once, when an item
    first needs it, and all its items get the same object: arrays and tables in it are read-only, and are one memory for
    all workers. It stays there as long as there is a ref to it, or a job that uses one.

    It belongs to the pool that it was put in. Used in another one, it is put there as well, as it is then. ::

        ref = pool.put(table)                       # copied once
        await pool.map(partial(score, ref), rows)   # def score(table, row): ...
    """

    __slots__ = ("_size", "_stored", "value")

    def __init__(self, value: T, store: Store | None = None) -> None:
        """Copy the value; raises NotPicklable where that cannot be done. Without a store it travels with each item."""
        new_epoch()  # No job starts here, but classes of cells too must be put as they are now.
        self.value = value
        self._stored: Stored | bytes
        if store is None:
            self._stored = _pickled(value)
            self._size = len(self._stored)
        else:
            self._stored = _put(value, store)
            self._size = sum(self._stored.lengths)

    def stored_in(self, store: Store) -> Stored:
        """What stands for it in the items of that store's pool."""
        stored = self._stored
        if isinstance(stored, bytes) or not stored.is_in(store):
            stored = self._stored = _put(self.value, store)
        return stored

    def __reduce__(self) -> tuple[object, tuple[bytes]]:
        """Travel as the value, where nothing can stand for it."""
        stored = self._stored
        return load_item, (stored if isinstance(stored, bytes) else _pickled(self.value),)

    def __repr__(self) -> str:
        return f"<Ref to {type(self.value).__name__}, {self._size:,} bytes>"


def _put(value: object, store: Store) -> Stored:
    flat = Flat()
    pickled, pickler = _dump(value, flat, store)
    return store.put([memoryview(pickled), *flat.taken], pickler.refs)


class _Flattening(InputPickler):
    """Has the bytes of every array out of the pickle, so that all items read the same memory and none can write there.

    numpy puts them into the pickle where there are gaps, or moments, or where the array is of a subclass.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Asked for everything that is not a plain builtin value."""
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(obj, numpy.ndarray) or not _is_plain(obj, numpy.ndarray):
            return super().reducer_override(obj)
        if type(obj) is not numpy.ndarray:
            return numpy.ndarray.view, (obj.view(numpy.ndarray), type(obj))
        order = "F" if obj.flags.fnc else "C"
        flat = numpy.asarray(obj, order=order).reshape(-1, order=order).view(numpy.uint8)
        return numpy.ndarray, (obj.shape, obj.dtype, pickle.PickleBuffer(flat), 0, None, order)


def _is_plain(array: Any, base: type[Any]) -> bool:
    """Whether its bytes are all that a pickle would take of it."""
    own = [
        getattr(type(array), name) is getattr(base, name) for name in ("__reduce__", "__reduce_ex__", "__setstate__")
    ]
    return all(own) and not array.dtype.hasobject and array.nbytes > 0


def _pickled(value: object) -> bytes:
    return _dump(value, None, None)[0]


def _dump(value: object, flat: Flat | None, store: Store | None) -> tuple[bytes, InputPickler]:
    known = definitions()
    stream = io.BytesIO()
    pickler = (InputPickler if flat is None else _Flattening)(stream, known, buffers=flat)
    pickler.store = store
    try:
        pickler.dump(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a user's __reduce__ may raise anything
        refusal = blame_input(value, error, lambda part: InputPickler(io.BytesIO(), known).dump(part))
        raise refusal from refusal.__cause__
    if pickler.in_vain and (in_vain := vain_in_input(value)) is not None:
        raise in_vain
    return stream.getvalue(), pickler


name_by_number(Ref)
