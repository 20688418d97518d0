"""Where an exception may be raised in an item that shall end, as far as that can be told from its frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import types


def must_not_be_struck(frame: types.FrameType) -> bool:
    """Whether an exception that is raised here would do harm beyond the item.

    In a frame of ours it would strike whoever runs items. Within an import it would leave a package half made, which
    every later import of it in this process falls over: its parts are there, but not in it. So with a function that is
    loaded, and with a class of a cell.
    """
    if frame.f_globals.get("__name__", "").startswith("aiopool._worker"):
        return True
    outer: types.FrameType | None = frame
    while outer is not None:
        if outer.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            return True
        module = outer.f_globals.get("__name__")
        if module == "aiopool._payload.classes":
            return True
        if module == "aiopool._payload.loading" and outer.f_code.co_name == "load_job":
            return True
        outer = outer.f_back
    return False
