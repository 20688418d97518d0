"""What items print, warn and display in a notebook: under the right cell, each under its own name, and in order."""

from __future__ import annotations

import re

import pytest

from tests.kernel.harness import Cell, Kernel, Signs

pytestmark = pytest.mark.kernel


def outputs(cell: Cell) -> list[tuple[str, str]]:
    """What stands under the cell, in order: texts of streams, and the plain texts of what was displayed."""
    told: list[tuple[str, str]] = []
    for message in cell.messages:
        if message.kind == "stream":
            told.append((message.content["name"], message.content["text"]))
        elif message.kind == "display_data":
            told.append(("display", message.content["data"].get("text/plain", "")))
    return told


@pytest.mark.core
def test_a_display_of_an_item_stands_under_the_cell_in_order(kernel: Kernel) -> None:
    """The name ``display`` needs no import in a cell; the HTML of it comes, too."""
    kernel.run(
        """
        class Table:
            def __repr__(self):
                return "a table"
            def _repr_html_(self):
                return "<table></table>"
        def work(x):
            print("before", x)
            display(Table())
            print("after", x)
        """
    )
    cell = kernel.run("await pmap(work, [7], progress=False)")
    assert outputs(cell) == [
        ("stdout", "[item 0] before 7\n"),
        ("display", "a table"),
        ("stdout", "[item 0] after 7\n"),
    ]
    (shown,) = [message.content["data"] for message in cell.messages if message.kind == "display_data"]
    assert shown["text/html"] == "<table></table>"


def test_plots_of_items_are_pictures_under_the_cell(own_kernel: Kernel) -> None:
    """``plt.show()`` in an item, though the kernel's own backend is the one for cells."""
    own_kernel.run("import matplotlib.pyplot as plt\n%matplotlib inline")
    own_kernel.run(
        """
        def work(x):
            plt.plot([x, 2, 3])
            plt.show()
            return len(plt.get_fignums())
        """
    )
    cell = own_kernel.run("await pmap(work, range(2), progress=False)", seconds=60)
    assert cell.value == [0, 0]
    shown = [message.content["data"] for message in cell.messages if message.kind == "display_data"]
    assert [each["text/plain"] for each in shown] == ["<Figure size 640x480 with 1 Axes>"] * 2
    assert all(each["image/png"].startswith("iVBORw0KGgo") for each in shown)


def test_figures_that_items_leave_open_are_shown_once_and_are_pictures_as_values(own_kernel: Kernel) -> None:
    """By the worker, not by the kernel's pyplot as well; also in a kernel that has drawn nothing itself."""
    own_kernel.run(
        """
        import matplotlib.pyplot as plt
        def work(x):
            figure, axes = plt.subplots()
            axes.plot([x, 2, 3])
            return figure
        """
    )
    cell = own_kernel.run("figures = await pmap(work, range(2), progress=False)", seconds=60)
    shown = [message.content["data"] for message in cell.messages if message.kind == "display_data"]
    assert [each["image/png"][:11] for each in shown] == ["iVBORw0KGgo"] * 2
    (value,) = [message for message in own_kernel.run("figures[0]").messages if message.kind == "execute_result"]
    assert value.content["data"]["image/png"].startswith("iVBORw0KGgo")
    assert own_kernel.value("plt.get_fignums()") == []
    # What is chosen for the kernel's own figures holds for those of workers, too.
    own_kernel.run("%config InlineBackend.figure_formats = ['svg']\nplt.get_fignums()\n%matplotlib inline")
    (value,) = [message for message in own_kernel.run("figures[1]").messages if message.kind == "execute_result"]
    assert sorted(value.content["data"]) == ["image/svg+xml", "text/plain"]


def test_the_display_that_a_cell_has_imported_works_in_items(own_kernel: Kernel) -> None:
    """It is IPython's; in a worker it sends what is displayed to the cell."""
    own_kernel.run("from IPython.display import HTML, display")
    cell = own_kernel.run("await pmap(lambda x: display(HTML(f'<b>{x}</b>')), range(2), progress=False)", seconds=60)
    shown = [message.content["data"] for message in cell.messages if message.kind == "display_data"]
    assert sorted(each["text/html"] for each in shown) == ["<b>0</b>", "<b>1</b>"]


def test_a_warning_is_shown_once_with_the_cells_name(kernel: Kernel) -> None:
    """Not a hundred times with the name of a file that is nowhere."""
    defined = kernel.run(
        """
        import warnings
        def warns(x):
            warnings.simplefilter("always")
            warnings.warn("careful")
        """
    )
    cell = kernel.run("await pmap(warns, range(100), progress=False)")
    first, source, last = cell.printed("stderr").splitlines()
    place = f"Cell In[{defined.number}], line 4: UserWarning: careful"
    assert re.fullmatch(rf"\[item \d+\] {re.escape(place)}", first)
    assert re.fullmatch(r'\[item \d+\]   warnings\.warn\("careful"\)', source)
    assert last == f"[aiopool] 99 times more: {place}"


def test_lines_of_two_jobs_of_two_cells_come_under_their_own(kernel: Kernel, signs: Signs) -> None:
    """Though both print at once."""
    kernel.run(
        """
        async def chatty(name):
            while not os.path.exists(os.path.join(SIGNS, "go")):
                await asyncio.sleep(0.01)
            for number in range(20):
                print(name, number)
                await asyncio.sleep(0.01)
        """
    )
    first = kernel.run("first = pmap(chatty, ['first'], progress=False)")
    second = kernel.run("second = pmap(chatty, ['second'], progress=False)")
    kernel.run("sign('go')\nwhile not (first.done() and second.done()):\n    time.sleep(0.01)")
    for name, cell in (("first", first), ("second", second)):
        cell.wait_for(lambda cell, name=name: f"{name} 19" in cell.printed(), "the last line")
        assert cell.printed().splitlines() == [f"[item 0] {name} {number}" for number in range(20)]


def test_a_flood_of_an_item_slows_neither_the_cell_nor_the_kernel(kernel: Kernel) -> None:
    """A hundred megabytes: a few thousand lines stand under the cell, and how many do not."""
    kernel.run(
        """
        def floods(x):
            page = ("z" * 79 + "\\n") * 1000
            for _ in range(1250):
                sys.stdout.write(page)
        """
    )
    cell = kernel.run(
        """
        job, slowest = pmap(floods, [0], progress=False), 0
        while not job.done():
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest = max(slowest, time.monotonic() - began)
        slowest
        """,
        seconds=60,
    )
    assert cell.value < 4
    lines = cell.printed().splitlines()
    assert 2_000 <= len(lines) < 20_000
    assert f"[aiopool] {1_250_000 - len(lines):,} lines were not shown" in cell.printed("stderr")
    assert kernel.value("job.snapshot().unshown") == 1_250_000 - len(lines)
    streams = [message for message in cell.messages if message.kind == "stream"]
    assert len(streams) < 300


@pytest.mark.parametrize("ask", ["input('Name? ')", "breakpoint()"])
def test_what_asks_somebody_in_an_item_is_an_error_with_a_way_out(kernel: Kernel, ask: str) -> None:
    """It waits for nobody."""
    kernel.run(f"def asks(x):\n    return {ask}")
    cell = kernel.run_any("await pmap(asks, [1], progress=False)")
    assert cell.error is not None
    assert "RuntimeError" in cell.traceback
    assert "where nobody can answer" in cell.traceback
