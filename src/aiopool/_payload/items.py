"""Arguments of items: plain ones together in one pickle, every other one in its own, so that one bad one costs one."""

from __future__ import annotations

import io
import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from aiopool._payload.classes import InputPickler, definitions
from aiopool._payload.culprits import blame_input, vain_in_input
from aiopool._payload.functions import FunctionBlob
from aiopool.errors import NotPicklable

__all__ = ["PLAIN_TYPES", "EncodedItems", "dump_items", "dump_shared", "load_item", "load_shared"]

PLAIN_TYPES: frozenset[type] = frozenset({int, float, bool, str, bytes, type(None)})
"""Values of exactly these types always travel and always load, so they may share a pickle."""


@dataclass(frozen=True, slots=True)
class EncodedItems:
    """Some values on their way: the plain ones in ``shared``, in order; ``blobs`` has None where one is not its own.

    ``refused`` are the positions of those that cannot travel, each with what to tell.
    """

    shared: bytes
    blobs: tuple[bytes | None, ...]
    refused: tuple[tuple[int, BaseException], ...]


def dump_items(values: Sequence[object], function: FunctionBlob | None = None) -> EncodedItems:
    """Pickle arguments. Never raises for what a value does: that one is refused, the others travel.

    With the ``function`` of their job given, values of classes that come with it are a tenth of the size.
    """
    if PLAIN_TYPES.issuperset(map(type, values)):
        return EncodedItems(dump_shared(list(values)), (None,) * len(values), ())
    shared: list[object] = []
    blobs: list[bytes | None] = []
    refused: list[tuple[int, BaseException]] = []
    named = function.classes if function is not None else frozenset()
    for position, value in enumerate(values):
        blob = None
        if type(value) in PLAIN_TYPES:
            shared.append(value)
        else:
            done = _dump_item(value, named)
            if isinstance(done, bytes):
                blob = done
            else:
                refused.append((position, done))
        blobs.append(blob)
    return EncodedItems(dump_shared(shared), tuple(blobs), tuple(refused))


def _dump_item(value: object, named: frozenset[str]) -> bytes | NotPicklable:
    """Its bytes, or what to tell; not raised, for a traceback would hold the value."""
    known = definitions()
    stream = io.BytesIO()
    pickler = InputPickler(stream, known, named)
    try:
        pickler.dump(value)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise  # Stop, in the call of a submit; a feeder's thread is never struck by one.
        return blame_input(value, error, lambda part: InputPickler(io.BytesIO(), known).dump(part))
    if pickler.in_vain and (refusal := vain_in_input(value)) is not None:
        return refusal
    return stream.getvalue()


def dump_shared(values: list[object]) -> bytes:
    """Plain values together."""
    return pickle.dumps(values, protocol=5)


def load_shared(data: bytes | memoryview) -> list[object]:
    """What :func:`dump_shared` made."""
    values: list[object] = pickle.loads(data)  # noqa: S301 - bytes of our own kernel, over an inherited pipe
    return values


def load_item(data: bytes | memoryview) -> object:
    """One argument that has its own pickle. Classes of the notebook that are here already stay as they are."""
    return pickle.loads(data)  # noqa: S301 - bytes of our own kernel, over an inherited pipe
