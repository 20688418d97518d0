"""Text of users on its way to a screen: without what steers terminals, and escaped where it becomes HTML.

What is built here needs no style sheet: GitHub strips the attribute ``style``, and it must read well there.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

__all__ = ["clipped", "escape", "folded", "in_one_line", "plain", "preformatted", "table"]

_STEERING = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"  # colours, titles, the rest
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"  # all other controls, but for tabs and ends of lines
)
_SURROGATES = re.compile("[\ud800-\udfff]")
_BLANKS = re.compile(r"\s+")


def plain(text: str) -> str:
    """The text without colours and controls, as a browser and JSON can take it. Ends of lines and tabs stay."""
    if text.isprintable():
        return text
    # What is no character travels in no message: half of a pair, and bytes that were no UTF-8.
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", _STEERING.sub("", text))


def clipped(text: str, most: int) -> str:
    """The text, of a long one the beginning."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def in_one_line(text: str, most: int) -> str:
    """The text for a place that has one line: ends of lines become blanks."""
    # A text of megabytes is not looked through for what nobody sees.
    text = clipped(text, 4 * most)
    return clipped(text if text.isprintable() else _BLANKS.sub(" ", plain(text)).strip(), most)


def escape(text: str) -> str:
    """The text as HTML that shows it, within an element and within the quotes of an attribute."""
    return html.escape(plain(text), quote=True)


def preformatted(text: str) -> str:
    """The text with its lines and blanks."""
    style = "margin:0.3em 0;white-space:pre-wrap;overflow-wrap:anywhere"
    return f'<pre style="{style}">{escape(text)}</pre>' if text else ""


def folded(summary: str, body: str, *, is_open: bool = False) -> str:
    """HTML that unfolds on a click; ``summary`` is text, ``body`` HTML."""
    return f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{body}</details>"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """A table of texts; the columns of ``numbers`` are aligned to the right, and columns without any text left out."""
    cells = [list(row) for row in rows]
    used = [at for at in range(len(titles)) if any(row[at] for row in cells)]
    right = set(numbers)
    head = "".join(f"<th{_align(at in right)}>{escape(titles[at])}</th>" for at in used)
    body = "".join(
        "<tr>" + "".join(f"<td{_align(at in right)}>{escape(row[at])}</td>" for at in used) + "</tr>" for row in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if cells else ""


def _align(is_number: bool) -> str:  # noqa: FBT001 - one of two sides
    # The attribute for GitHub, the style because JupyterLab's own sheet moves every cell to the right.
    return ' align="right"' if is_number else ' align="left" style="text-align:left"'
