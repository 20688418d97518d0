"""The only room that knows cloudpickle: functions, arguments, results, errors and source lines, as bytes and back.

The kernel uses ``dump_function``, ``dump_items``, ``load_value``, ``load_shared`` and ``load_error``; a worker
uses ``load_job``, ``load_function``, ``may_retry``, ``load_shared``, ``load_item``, ``dump_value``, ``dump_shared`` and
``dump_error``. Both import it, so it stays light: the standard library and cloudpickle.
"""

from __future__ import annotations

from aiopool._payload.errors_as_data import dump_error, load_error, told
from aiopool._payload.functions import FunctionBlob, dump_function, load_function, load_job, may_retry
from aiopool._payload.items import PLAIN_TYPES, EncodedItems, dump_items, dump_shared, load_item, load_shared
from aiopool._payload.outcomes import dump_value, load_value

__all__ = [
    "PLAIN_TYPES",
    "EncodedItems",
    "FunctionBlob",
    "dump_error",
    "dump_function",
    "dump_items",
    "dump_shared",
    "dump_value",
    "load_error",
    "load_function",
    "load_item",
    "load_job",
    "load_shared",
    "load_value",
    "may_retry",
    "told",
]
