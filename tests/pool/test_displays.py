"""What items display: every MIME type of it, in order with what they print, without IPython in the worker."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from typing import Any

import pytest

from aiopool import per_worker
from tests.pool.board import DEADLINE
from tests.pool.listening import Heard
from tests.pool.scripts import run, script

# ruff: noqa: T201, F821  # items print, and find `display` where a cell finds it
# mypy: disable-error-code="name-defined"


class Table:
    """A thing that can be shown in several ways."""

    def __repr__(self) -> str:
        return "Table of 3"

    def _repr_html_(self) -> str:
        return "<table>3</table>"

    def _repr_png_(self) -> bytes:
        return b"\x89PNG..."

    def _repr_latex_(self) -> None:
        return None

    def _repr_svg_(self) -> str:
        raise NotImplementedError


class Bundle:
    """A thing that makes its bundle itself."""

    def __repr__(self) -> str:
        return "Bundle"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"text/plain": "its own text", "application/vnd.mine+json": {"a": [1]}}, {"isolated": True}


class Broken:
    """A thing one of whose ways to be shown fails."""

    def __repr__(self) -> str:
        return "Broken"

    def _repr_html_(self) -> str:
        raise ValueError("no html today")


def test_a_display_has_every_type_and_stands_where_it_was_made(pool, heard: Heard):
    """Between the prints of its item, under its index; nothing of IPython is imported for it."""

    def item(x: int) -> bool:
        print("before")
        display(Table(), x)
        print("after")
        return "IPython" in sys.modules

    assert pool.map(item, range(3)).result(DEADLINE) == [False] * 3
    for x in range(3):
        first, table, number, last = [each for each in heard.all if each.item == x]
        assert (first.text, last.text) == ("before", "after")
        assert table.data == {
            "text/plain": "Table of 3",
            "text/html": "<table>3</table>",
            "image/png": base64.b64encode(b"\x89PNG...").decode(),
        }
        assert number.data == {"text/plain": str(x)}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_thing_that_makes_its_own_bundle_is_asked_for_it(pool, heard: Heard, kind):
    """Its types count more than those of others."""

    async def item_async(_: int) -> None:
        await asyncio.sleep(0)
        display(Bundle())

    pool.map(item_async if kind == "async def" else lambda _: display(Bundle()), [0]).result(DEADLINE)
    (shown,) = heard.displays
    assert shown.data == {"text/plain": "its own text", "application/vnd.mine+json": {"a": [1]}}
    assert shown.metadata == {"isolated": True}


def test_a_way_that_fails_is_told_and_the_others_are_taken(pool, heard: Heard):
    """As in a notebook: the traceback among the prints, the text as a display."""
    pool.map(lambda _: display(Broken()), [0]).result(DEADLINE)
    (shown,) = heard.displays
    assert shown.data == {"text/plain": "Broken"}
    assert heard.of(0)[-1] == "ValueError: no html today"


def test_include_exclude_metadata_and_raw_are_as_ipythons(pool, heard: Heard):
    """The options that code in the wild passes."""

    def item(_: int) -> None:
        display(Table(), include=["text/html"])
        display(Table(), exclude=["image/png", "text/html"], metadata={"text/plain": {"a": 1}})
        display({"text/plain": "raw", "text/html": "<b>raw</b>"}, raw=True)

    pool.map(item, [0]).result(DEADLINE)
    assert [sorted(each.data) for each in heard.displays] == [
        ["text/html"],
        ["text/plain"],
        ["text/html", "text/plain"],
    ]
    assert heard.displays[1].metadata == {"text/plain": {"a": 1}}


def test_a_display_can_be_replaced(pool, heard: Heard):
    """By its handle, or by the name that it was given."""

    def item(_: int) -> None:
        handle = display("first", display_id=True)
        handle.update("second")
        display("third", display_id="mine")

    pool.map(item, [0]).result(DEADLINE)
    first, second, third = heard.displays
    assert first.display_id
    assert second.display_id == first.display_id
    assert (first.update, second.update, third.update) == (False, True, False)
    assert second.data == {"text/plain": "'second'"}
    assert third.display_id == "mine"


def test_a_big_display_comes_whole_and_a_huge_one_is_said(pool, heard: Heard):
    """Up to ten megabytes, in many parts; what others print meanwhile is not in it."""

    def item(size: int) -> None:
        for _ in range(3):
            print("a line of", size)
        display({"text/html": "x" * size}, raw=True)

    pool.map(item, [1_000, 1_000_000, 9_000_000, 11_000_000], concurrency=4, batch=1).result(DEADLINE)
    sizes = sorted(len(each.data["text/html"]) for each in heard.displays)
    assert sizes == [1_000, 1_000_000, 9_000_000]
    assert heard.of(3)[-1] == "11 MB of text/html are not shown: a display may have 10 MB"


def test_thousands_of_displays_are_limited_and_counted(pool, heard: Heard):
    """As lines are."""
    pool.map(lambda _: [display(number) for number in range(1_000)], [0]).result(DEADLINE)
    shown = len(heard.displays)
    assert 50 <= shown < 500
    assert heard.notes == [f"{1_000 - shown:,} displays were not shown: there were too many"]


def test_figures_are_shown_as_pictures_and_closed(fresh, fonts, heard: Heard):
    """``plt.show()``, ``display(figure)``, ``figure.show()``; an empty figure is not worth a picture."""

    def item(_: int) -> list[int]:
        import matplotlib.pyplot as plt

        plt.plot([1, 2, 3])
        print("before")
        plt.show()
        print("between")
        figure, axes = plt.subplots()
        axes.plot([3, 2, 1])
        display(figure)
        plt.close(figure)
        plt.figure()
        plt.show()
        return list(plt.get_fignums())

    assert fresh(1).map(item, [0]).result(DEADLINE) == [[]]
    told = [getattr(each, "text", "a picture") for each in heard.all]
    assert told == ["before", "a picture", "between", "a picture"]
    for shown in heard.displays:
        assert base64.b64decode(shown.data["image/png"]).startswith(b"\x89PNG")
        assert shown.data["text/plain"] == "<Figure size 640x480 with 1 Axes>"


def pictures(heard: Heard) -> list[int | None]:
    """Of which items there is a picture, in order."""
    assert all(shown.data["image/png"] for shown in heard.displays)
    return [shown.item for shown in heard.displays]


@pytest.mark.parametrize("kind", ["def", "async def", "a lambda for a coroutine", "timeout"])
def test_figures_that_an_item_leaves_open_are_shown_at_its_end_and_closed(fresh, fonts, heard: Heard, kind):
    """As at the end of a notebook's cell, and the next item begins without them; however it is run."""

    def item(x: int) -> tuple[int, int]:
        import matplotlib.pyplot as plt

        plt.plot([0, x])
        print("plotted")
        return len(plt.gca().lines), len(plt.get_fignums())

    async def item_async(x: int) -> tuple[int, int]:
        await asyncio.sleep(0)
        return item(x)

    kinds: dict[str, Any] = {
        "async def": item_async,
        "a lambda for a coroutine": lambda x: (item_async(x),)[0],
    }
    timeout = DEADLINE if kind == "timeout" else None
    pool = fresh(1)
    assert pool.map(kinds.get(kind, item), range(4), concurrency=1, timeout=timeout).result(DEADLINE) == [(1, 1)] * 4
    assert pictures(heard) == [0, 1, 2, 3]
    for x in range(4):
        assert [getattr(each, "text", "a picture") for each in heard.all if each.item == x] == ["plotted", "a picture"]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_figures_of_an_item_that_fails_are_shown_as_well(fresh, fonts, heard: Heard, kind):
    """All of them, in the order in which pyplot has them; they may say why it has failed."""

    def item(x: int) -> None:
        import matplotlib.pyplot as plt

        for title in ("first", "second"):
            plt.figure()
            plt.plot([0, x])
            plt.gcf().__class__.__repr__ = lambda figure: figure.get_label()
            plt.gcf().set_label(title)
        raise ValueError("not like this")

    async def item_async(x: int) -> None:
        item(x)

    def count(_: int) -> list[int]:
        import matplotlib.pyplot as plt

        return plt.get_fignums()

    pool = fresh(1)
    (failure,) = pool.map(item if kind == "def" else item_async, [7], on_error="return").result(DEADLINE)
    assert str(failure.error) == "not like this"
    assert [shown.data["text/plain"] for shown in heard.displays] == ["first", "second"]
    assert pictures(heard) == [0, 0]
    assert pool.map(count, [0]).result(DEADLINE) == [[]]


def test_a_figure_is_that_of_the_item_in_which_it_was_made(fresh, fonts, heard: Heard):
    """Coroutines that wait between two lines of a plot do not draw into each other's figures, nor close them."""

    async def item(x: int) -> int:
        import matplotlib.pyplot as plt

        plt.plot([0, x])
        await asyncio.sleep(0.01 * (3 - x))
        plt.plot([x, 0])
        await asyncio.sleep(0.01 * (3 - x))
        lines = len(plt.gca().lines)
        if x == 3:
            plt.close("all")
        if x == 2:
            plt.show()
        return lines

    assert fresh(1).map(item, range(4), concurrency=4).result(DEADLINE) == [2] * 4
    assert sorted(pictures(heard)) == [0, 1, 2]


def test_a_figure_that_is_the_value_arrives_and_opens_nowhere_else(fresh, fonts, heard: Heard):
    """It is shown, closed and sent; loaded here it is no figure of the notebook's pyplot."""
    plt = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is needed to load a figure")
    before = plt.get_fignums()

    def item(x: int) -> Any:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        axes.plot([0, x])
        return figure if x else axes

    axes, figure = fresh(1).map(item, range(2)).result(DEADLINE)
    assert len(axes.lines) == len(figure.axes[0].lines) == 1
    assert plt.get_fignums() == before
    assert sorted(pictures(heard)) == [0, 1]


def test_figures_of_the_worker_stay(fresh, fonts, heard: Heard):
    """Those of an initializer and of a resource: no item has made them, so none ends them."""

    def begin() -> None:
        import matplotlib.pyplot as plt

        plt.figure("of the initializer")

    @per_worker
    def board() -> Any:
        import matplotlib.pyplot as plt

        return plt.figure("of the resource")

    def item(x: int) -> list[str]:
        import matplotlib.pyplot as plt

        board().add_subplot()
        plt.figure(str(x)).add_subplot()
        return plt.get_figlabels()

    both = ["of the initializer", "of the resource"]
    assert fresh(1, initializer=begin).map(item, range(2)).result(DEADLINE) == [[*both, "0"], [*both, "1"]]
    assert pictures(heard) == [0, 1]


def test_a_figure_that_cannot_be_drawn_is_told_and_the_worker_goes_on(fresh, fonts, heard: Heard):
    """Its item has ended as it did."""

    def item(x: int) -> int:
        import matplotlib.pyplot as plt

        plt.plot([0, x])
        plt.title("$\\nonsense$")
        return os.getpid()

    first, second = fresh(1).map(item, range(2)).result(DEADLINE)
    assert first == second
    assert [any("nonsense" in line for line in heard.of(x)) for x in range(2)] == [True, True]


def test_ipythons_own_display_is_ours_where_an_item_imports_it(fresh, heard: Heard):
    """And what it brings: HTML, Markdown, a picture from bytes. Nothing of it starts a shell."""

    def item(_: int) -> bool:
        from IPython.core.interactiveshell import InteractiveShell
        from IPython.display import HTML, Image, Markdown, display, publish_display_data

        display(HTML("<i>html</i>"), Markdown("*md*"))
        display(Image(b"\x89PNG\r\n\x1a\n" + bytes(20), format="png"))
        publish_display_data({"text/plain": "published"})
        return InteractiveShell.initialized()

    assert fresh(1).map(item, [0]).result(DEADLINE) == [False]
    html, markdown, image, published = [each.data for each in heard.displays]
    assert html["text/html"] == "<i>html</i>"
    assert markdown["text/markdown"] == "*md*"
    assert base64.b64decode(image["image/png"]).startswith(b"\x89PNG")
    assert published == {"text/plain": "published"}


def test_pandas_comes_as_a_table(fresh, heard: Heard):
    """What most people display."""

    def item(_: int) -> None:
        import pandas as pd

        display(pd.DataFrame({"a": [1, 2]}))

    fresh(1).map(item, [0]).result(DEADLINE)
    (shown,) = heard.displays
    assert "<table" in shown.data["text/html"]
    assert shown.data["text/plain"] == "   a\n0  1\n1  2"


def test_in_a_script_the_text_of_a_display_is_printed(tmp_path):
    """Nobody could show more there."""
    source = """
        from aiopool import Pool
        with Pool(workers=1) as pool:
            pool.map(lambda x: display({"text/plain": f"shown {x}"}, raw=True), range(2)).result(20)
    """
    assert run(script(tmp_path, source), cwd=tmp_path) == "[item 0] shown 0\n[item 1] shown 1\n"
