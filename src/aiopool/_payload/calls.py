"""The arguments of one call. Most are plain values, and need none of what stands ready for the others."""

from __future__ import annotations

import pickle
from typing import Any

from aiopool._payload.items import EncodedItems
from aiopool._payload.loading import PLAIN_TYPES

__all__ = ["dump_plain_call"]

Call = tuple[tuple[Any, ...], dict[str, Any]]

_BARE = EncodedItems(b"", (pickle.dumps(((), {}), protocol=5),), ())


def dump_plain_call(call: Call) -> EncodedItems | None:
    """The arguments of one call, as one item; None where one of them is no plain value, and needs more than this."""
    args, keywords = call
    if not args and not keywords:
        return _BARE
    if PLAIN_TYPES.issuperset(map(type, args)) and (
        # A name may be of a class of the user's, too.
        not keywords or PLAIN_TYPES.issuperset(map(type, (*keywords, *keywords.values())))
    ):
        return EncodedItems(b"", (pickle.dumps(call, protocol=5),), ())
    return None
