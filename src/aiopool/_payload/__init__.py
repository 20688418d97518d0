"""The only room that knows cloudpickle: functions, arguments, results, errors and source lines, as bytes and back.

The kernel uses ``dump_function``, ``dump_items``, ``dump_plain_call``, ``load_value``, ``load_shared``, ``load_error``
and ``parted``; a worker uses ``load_job``, ``load_call``, ``load_function``, ``may_retry``, ``load_shared``,
``load_item``, ``dump_value``, ``dump_shared`` and ``dump_error``. What a fresh worker does without is loaded when it is
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiopool._payload.loading import (
    PLAIN_TYPES,
    dump_shared,
    load_call,
    load_function,
    load_item,
    load_job,
    load_shared,
    may_retry,
)
from aiopool._payload.parcels import Packed, Parcel, Writer, write_results_to

if TYPE_CHECKING:
    from aiopool._payload.calls import dump_plain_call
    from aiopool._payload.errors_as_data import dump_error, load_error, parted, said, told
    from aiopool._payload.functions import FunctionBlob, dump_function
    from aiopool._payload.items import EncodedItems, dump_items
    from aiopool._payload.outcomes import dump_value, load_value

__all__ = [
    "PLAIN_TYPES",
    "EncodedItems",
    "FunctionBlob",
    "Packed",
    "Parcel",
    "Writer",
    "dump_error",
    "dump_function",
    "dump_items",
    "dump_plain_call",
    "dump_shared",
    "dump_value",
    "load_call",
    "load_error",
    "load_function",
    "load_item",
    "load_job",
    "load_shared",
    "load_value",
    "may_retry",
    "parted",
    "said",
    "told",
    "write_results_to",
]

_HOMES = {
    "EncodedItems": "items",
    "FunctionBlob": "functions",
    "dump_plain_call": "calls",
    "dump_error": "errors_as_data",
    "dump_function": "functions",
    "dump_items": "items",
    "dump_value": "outcomes",
    "load_error": "errors_as_data",
    "load_value": "outcomes",
    "parted": "errors_as_data",
    "said": "errors_as_data",
    "told": "errors_as_data",
}


def __getattr__(name: str) -> Any:
    """Load a name from its module when it is first used."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'aiopool._payload' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"aiopool._payload.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
