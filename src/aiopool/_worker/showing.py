"""``display(thing)`` in a worker: how the thing is shown, for each of its MIME types, sent to the cell.

What IPython's own ``display`` does, without IPython: a worker imports that only where the user's code does.
"""

from __future__ import annotations

import builtins
import contextvars
import io
import itertools
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from aiopool import inside
from aiopool._core import records
from aiopool._worker.amends import amend
from aiopool._worker.prints import Prints

if TYPE_CHECKING:
    from aiopool._worker.work import Stepped

__all__ = ["Handle", "begin", "display", "end_figures", "left_open", "update_display"]

MOST_BYTES = 10_000_000
"""How much one display may be."""

METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "application/pdf": "_repr_pdf_",
    "image/jpeg": "_repr_jpeg_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}

Data = Mapping[str, Any]

left_open: dict[int, Callable[[bool], object]] = {}
"""By the codes of items that have drawn with pyplot: closes the figures that they have left open, shown before or not.

Empty where nobody uses pyplot.
"""

_prints: Prints | None = None
_numbers = itertools.count(1)


def begin(prints: Prints) -> None:
    """From now on what is displayed goes out there."""
    global _prints  # noqa: PLW0603  # a process is one worker, once and for all
    _prints = prints
    builtins.display = display  # type: ignore[attr-defined]  # as in a kernel, where a cell need not import it
    amend("IPython.core.display_functions", _in_ipythons_place)


def end_figures(entry: Stepped, *, show: bool) -> None:
    """An item is ending, and its figures with it, as with a notebook's cell. For whoever runs items; never raises."""
    if (end := left_open.pop(entry.code, None)) is None:
        return
    context = contextvars.copy_context()
    context.run(inside.running.set, entry)
    try:
        context.run(end, show)
    except BaseException:  # noqa: BLE001  # drawing runs the user's code; the item has ended as it did
        import traceback  # with the reader of Python files

        context.run(traceback.print_exc)


def _in_ipythons_place(module: Any) -> None:
    module.display, module.update_display, module.publish_display_data = display, update_display, _publish


class Handle:
    """What ``display(thing, display_id=True)`` returns: puts something else into the place of what was displayed."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, thing: object, **options: Any) -> None:
        """Display another thing under the same id."""
        display(thing, display_id=self.display_id, **options)

    def update(self, thing: object, **options: Any) -> None:
        """Display it in the place of the one before."""
        update_display(thing, display_id=self.display_id, **options)


def display(
    *things: object,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    metadata: Data | None = None,
    transient: Data | None = None,  # noqa: ARG001  # as IPython's
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,  # noqa: ARG001  # the same
    update: bool = False,
    **_: Any,
) -> Handle | None:
    """Show these things under the cell, each with all its MIME types; ``raw``: they are such mappings already."""
    name = os.urandom(16).hex() if display_id is True else str(display_id or "")
    for thing in things:
        shown = (dict(thing), {}) if raw and isinstance(thing, Mapping) else _bundle(thing, include, exclude)
        if shown is not None:
            _publish(shown[0], {**shown[1], **(metadata or {})}, display_id=name, update=update)
    return Handle(name) if name and not update else None


def update_display(thing: object, *, display_id: str, **options: Any) -> None:
    """Show it in the place of what was displayed under this id."""
    display(thing, display_id=display_id, update=True, **options)


def _publish(
    data: Data,
    metadata: Data | None = None,
    *,
    transient: Data | None = None,
    display_id: str = "",
    update: bool = False,
    **_: Any,
) -> None:
    if _prints is None or not _prints.room:
        return
    name = display_id or str((transient or {}).get("display_id", ""))
    told = {"data": _as_json(data), "metadata": metadata or {}, "display_id": name, "update": update}
    import json  # whose patterns take a fresh worker a millisecond to compile

    # Halves of characters, as in names of files that are no UTF-8, travel in no message.
    content = json.dumps(told, default=str, ensure_ascii=False).encode("utf-8", "replace")
    if len(content) > MOST_BYTES:
        kinds = ", ".join(kind for kind in data if kind != "text/plain") or "text/plain"
        text = f"{len(content) / 1e6:,.0f} MB of {kinds} are not shown: a display may have {MOST_BYTES // 1_000_000} MB"
        _prints.put(0, f"{text}\n".encode())
        return
    # A fork of this process may display something, too.
    number = os.getpid().to_bytes(4, "little") + (next(_numbers) & 0xFFFFFFFF).to_bytes(4, "little")
    step = _prints.room - len(number)
    *parts, last = (number + content[place : place + step] for place in range(0, len(content), step))
    _prints.send(records.PART, parts)
    _prints.send(records.LAST, [last])


def _as_json(data: Data) -> dict[str, Any]:
    import binascii  # only who displays something

    return {
        kind: binascii.b2a_base64(each, newline=False).decode() if isinstance(each, bytes) else each
        for kind, each in data.items()
    }


# --- how a thing is shown --------------------------------------------------------------------------------------------


def _bundle(
    thing: Any, include: Collection[str] | None, exclude: Collection[str] | None
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Its data and metadata, by MIME type; None where it displays itself."""
    if (method := _method(thing, "_ipython_display_")) is not None:
        method()
        return None
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    if (bundle := _method(thing, "_repr_mimebundle_")) is not None:
        value, more = _with_metadata(_tried(lambda: bundle(include=include, exclude=exclude)))
        if isinstance(value, Mapping):
            data.update(value)
            metadata.update(more or {})
    for kind, make in _ways(thing):
        if kind not in data and (not include or kind in include) and kind not in (exclude or ()):
            value, more = _with_metadata(_tried(make))
            if value is not None:
                data[kind] = value
                metadata.update({kind: more} if more else {})
    return data, metadata


def _ways(thing: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """How else it can be shown: the types, and what makes them."""
    yield "text/plain", lambda: _text(thing)
    if _is_figure(thing):
        yield "image/png", lambda: _picture(thing)
    for kind, name in METHODS.items():
        if (method := _method(thing, name)) is not None:
            yield kind, method


def _text(thing: object) -> str:
    return _tried(lambda: repr(thing)) or object.__repr__(thing)


def _with_metadata(value: Any) -> tuple[Any, Any]:
    return value if isinstance(value, tuple) and len(value) == 2 else (value, None)


def _tried(make: Callable[[], Any]) -> Any:
    """As in a notebook, one way to show a thing that fails is told, and the others are tried."""
    try:
        return make()
    except NotImplementedError:
        return None
    except Exception:  # noqa: BLE001  # the user's code may raise anything
        import traceback  # the same as above

        traceback.print_exc()
        return None


def _method(thing: Any, name: str) -> Callable[..., Any] | None:
    """A method of it, unless it is a class, or something that has whatever it is asked for."""
    if isinstance(thing, type):
        return None
    try:
        if getattr(thing, "_ipython_canary_method_should_not_exist_", None) is not None:
            return None
        method = getattr(thing, name, None)
    except Exception:  # noqa: BLE001  # the same
        return None
    return method if callable(method) else None


def _is_figure(thing: Any) -> bool:
    figures: Any = sys.modules.get("matplotlib.figure")
    return figures is not None and isinstance(thing, figures.Figure)


def _picture(figure: Any) -> bytes | None:
    """A figure of matplotlib's, with the margins that a notebook gives it; None of an empty one."""
    if not figure.axes and not figure.lines:
        return None
    file = io.BytesIO()
    figure.savefig(
        file,
        format="png",
        dpi=figure.dpi,
        bbox_inches="tight",
        facecolor=figure.get_facecolor(),
        edgecolor=figure.get_edgecolor(),
    )
    return file.getvalue()
