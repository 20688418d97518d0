"""Arguments of items: plain ones together in one pickle, every other one in its own, so that one bad one costs one."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Sequence
from itertools import chain

from aiopool._payload.classes import InputPickler, definitions
from aiopool._payload.culprits import blame_input, vain_in_input
from aiopool._payload.functions import FunctionBlob
from aiopool._payload.loading import PLAIN_TYPES, dump_shared, is_simple
from aiopool._payload.parcels import Buffers, Packed, Writer
from aiopool._payload.puts import Store, Stored
from aiopool.errors import NotPicklable
from aiopool.frozen import frozen

__all__ = ["EncodedItems", "dump_items"]


@frozen
class EncodedItems:
    """Some values on their way: the plain ones in ``shared``, in order; ``blobs`` has None where one is not its own.

    It is empty where all are plain. Small tuples of plain values count as such.

    ``refused`` are the positions of those that cannot travel, each with what to tell. So many bytes of the values stand
    ``in_pages``; their blobs are :class:`~aiopool._payload.parcels.Packed`. They name what was put, ``refs``.
    """

    shared: bytes
    blobs: tuple[bytes | None, ...]
    refused: tuple[tuple[int, BaseException], ...]
    in_pages: int = 0
    refs: tuple[Stored, ...] = ()

    @property
    def only(self) -> bytes | None:
        """The pickle of the only item, if that is all of it: nothing in pages, nothing that was put."""
        if len(self.blobs) != 1 or self.in_pages or self.refs or self.refused or type(self.blobs[0]) is not bytes:
            return None
        return self.blobs[0]


def dump_items(
    values: Sequence[object],
    function: FunctionBlob | None = None,
    pages: Writer | None = None,
    store: Store | None = None,
) -> EncodedItems:
    """Pickle arguments. Never raises for what a value does: that one is refused, the others travel.

    With the ``function`` of their job given, values of classes that come with it are a tenth of the size. A range
    travels as one, however long it is. Big buffers are written to the ``pages``, where there are any; what was put in
    the ``store`` is only named.
    """
    if type(values) is range:
        return EncodedItems(pickle.dumps(values, protocol=5), (), ())
    if _may_share(values):
        return EncodedItems(dump_shared(values if type(values) is list else list(values)), (), ())
    shared: list[object] = []
    blobs: list[bytes | None] = []
    refused: list[tuple[int, BaseException]] = []
    named = function.classes if function is not None else frozenset()
    in_pages = 0
    refs: dict[int, Stored] = {}
    for position, value in enumerate(values):
        blob = None
        if type(value) in PLAIN_TYPES or (type(value) is tuple and is_simple(value)):
            shared.append(value)
        elif is_simple(value):
            blob = pickle.dumps(value, protocol=5)
        else:
            done = _dump_item(value, named, pages, store, refs)
            if isinstance(done, bytes):
                blob = done
                if type(done) is Packed:
                    in_pages += done.grant.length
            else:
                refused.append((position, done))
        blobs.append(blob)
    return EncodedItems(dump_shared(shared), tuple(blobs), tuple(refused), in_pages, tuple(refs.values()))


def _may_share(values: Sequence[object]) -> bool:
    """Whether all of them are plain, or tuples of plain values, which nobody can change either."""
    kinds = set(map(type, values))
    if kinds == {tuple}:
        tuples: Sequence[tuple[object, ...]] = values  # type: ignore[assignment]  # just seen
        return PLAIN_TYPES.issuperset(map(type, chain.from_iterable(tuples)))
    return kinds <= PLAIN_TYPES


def _dump_item(
    value: object, named: frozenset[str], pages: Writer | None, store: Store | None, refs: dict[int, Stored]
) -> bytes | NotPicklable:
    """Its bytes, or what to tell; not raised, for a traceback would hold the value."""
    known = definitions()
    stream = io.BytesIO()
    buffers = None if pages is None else Buffers()
    pickler = InputPickler(stream, known, named, buffers)
    pickler.store, pickler.refs = store, refs
    packed: bytes | None = None
    try:
        pickler.dump(value)
        if pages is not None and buffers is not None and buffers.taken:
            packed = buffers.pack(stream.getvalue(), pages)
            if packed is None:
                return _dump_item(value, named, None, store, refs)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # Stop, in the call of a submit; a feeder's thread is never struck by one.
        return blame_input(value, error, lambda part: InputPickler(io.BytesIO(), known).dump(part))
    if pickler.in_vain and (refusal := vain_in_input(value)) is not None:
        return refusal
    return packed or stream.getvalue()
