"""A value that was put once and is used by many items."""

from __future__ import annotations

from typing import Generic, TypeVar

from aiopool._payload.classes import new_epoch
from aiopool._payload.items import dump_items, load_item, load_shared

T = TypeVar("T")


class Ref(Generic[T]):
    """What ``pool.put`` returns. Here it is ``ref.value``; in a worker the value itself stands wherever it was passed.

    It is pickled once, when it is put: later changes of the value here do not travel.
    """

    __slots__ = ("_pickled", "value")

    def __init__(self, value: T) -> None:
        """Pickle the value; raises NotPicklable where that cannot be done."""
        new_epoch()  # No job starts here, but classes of cells too must be put as they are now.
        encoded = dump_items((value,))
        if encoded.refused:
            raise encoded.refused[0][1]
        self.value = value
        own = encoded.blobs[0] if encoded.blobs else None
        self._pickled = (own, True) if own is not None else (encoded.shared, False)

    def __reduce__(self) -> tuple[object, tuple[bytes, bool]]:
        """Travel as the value."""
        return _value, self._pickled

    def __repr__(self) -> str:
        return f"<Ref to {type(self.value).__name__}, {len(self._pickled[0]):,} bytes pickled>"


def _value(pickled: bytes, own: bool) -> object:  # noqa: FBT001  # called by pickle, which passes by position
    return load_item(pickled) if own else load_shared(pickled)[0]
