"""What workers print and display: under which cell, in which order, in how many messages."""

from __future__ import annotations

import re

import pytest

from aiopool.jupyter.outlet import coloured, line_of
from tests.kernel.harness import Cell, Kernel, Signs

pytestmark = pytest.mark.kernel

CHATTY = """
async def talk(x, until="go"):
    n = 0
    while not os.path.exists(os.path.join(SIGNS, until)):
        print(f"{x} says {n}")
        n += 1
        await asyncio.sleep(0.02)
    print(f"{x} ends")
    return x
"""


@pytest.fixture
def talking(kernel: Kernel, signs: Signs) -> Kernel:
    """A kernel with a function that talks until it is allowed to go."""
    kernel.run(CHATTY)
    return kernel


def streams(cell: Cell) -> list[tuple[str, str, float]]:
    """The messages of lines under a cell: name, text, when it was sent."""
    return [(m.content["name"], m.content["text"], m.sent) for m in cell.messages if m.kind == "stream"]


def hears(cell: Cell, what: str, count: int = 1) -> bool:
    """Whether this stands under a cell so often."""
    return cell.printed().count(what) >= count


@pytest.mark.core
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_lines_say_which_item_has_printed_them_and_keep_their_stream(kernel: Kernel, kind: str) -> None:
    """All of them before the cell ends."""
    kernel.run(
        f"""
        {kind} chatty(x):
            print("one of", x)
            sys.stderr.write(f"warning {{x}}\\n")
            print("two of", x)
            return x
        """
    )
    cell = kernel.run("await pmap(chatty, range(4))")
    assert cell.value == [0, 1, 2, 3]
    lines = cell.printed().splitlines()
    assert sorted(lines) == sorted(f"[item {x}] {what} of {x}" for what in ("one", "two") for x in range(4))
    for x in range(4):
        mine = [line for line in lines if line.startswith(f"[item {x}]")]
        assert mine == [f"[item {x}] one of {x}", f"[item {x}] two of {x}"]
    errors = cell.printed("stderr").splitlines()
    assert sorted(errors) == [f"[item {x}] warning {x}" for x in range(4)]


def test_lines_are_out_before_the_job_has_ended_for_who_awaits_it(kernel: Kernel) -> None:
    """What the cell shows afterwards stands below them."""
    cell = kernel.run(
        """
        async def count(x):
            for n in range(50):
                print(n)
                await asyncio.sleep(0)
        await pmap(count, range(4), progress=False)
        get_ipython().display_pub.publish({"text/plain": "the end"})
        """
    )
    kinds = [m.kind for m in cell.messages if m.kind in ("stream", "display_data")]
    assert kinds[-1] == "display_data"
    assert cell.printed().count("\n") == 200


@pytest.mark.core
def test_calls_and_workers_have_names_of_their_own(kernel: Kernel) -> None:
    """A submit's line is labelled with its function, a broadcast's with the worker."""
    kernel.run("def say(*what):\n    print('hello', *what)")
    cell = kernel.run("await aiopool.get_pool().submit(say, 7)")
    assert cell.printed() == "[say] hello 7\n"
    cell = kernel.run("_ = await aiopool.get_pool().broadcast(say)")
    assert sorted(cell.printed().splitlines()) == ["[worker 0] hello", "[worker 1] hello"]


@pytest.mark.core
def test_two_jobs_of_two_cells_that_print_at_once_print_in_their_cells(talking: Kernel, signs: Signs) -> None:
    """Each line in its own, whichever cell runs meanwhile, and whatever that prints."""
    one = talking.run("one = pmap(talk, ['a'])")
    two = talking.run("two = pmap(talk, ['b'])")
    third = talking.run("for n in range(20):\n    print('mine', n)\n    time.sleep(0.05)")
    one.wait_for(lambda cell: hears(cell, "a says", 10), "lines")
    two.wait_for(lambda cell: hears(cell, "b says", 10), "lines")
    signs.allow("go")
    one.wait_for(lambda cell: hears(cell, "a ends"), "the last line")
    two.wait_for(lambda cell: hears(cell, "b ends"), "the last line")
    assert third.printed() == "".join(f"mine {n}\n" for n in range(20))
    for cell, name in ((one, "a"), (two, "b")):
        lines = cell.printed().splitlines()
        count = len(lines) - 1
        assert lines == [*(f"[item 0] {name} says {n}" for n in range(count)), f"[item 0] {name} ends"]


WAITS = {
    "await": "await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(wait(job))), 30)",
    "result": "job.result()",
    "wait": "await job.wait()",
    "for": "for each in job: pass",
    "async for": "async for each in job: pass",
    "as_completed": "async for each in job.as_completed(): pass",
    "gather": "await asyncio.gather(job, other)",
}


@pytest.mark.parametrize("how", WAITS)
def test_lines_come_to_the_cell_that_waits_for_the_job(talking: Kernel, signs: Signs, how: str) -> None:
    """However it does; what was printed before stands under the cell that started it."""
    first = talking.run("async def wait(job): return await job\nother = pmap(abs, [1])\njob = pmap(talk, ['a'])")
    first.wait_for(lambda cell: hears(cell, "a says", 3), "lines")
    waiting = talking.begin(WAITS[how])
    waiting.wait_for(lambda cell: len(streams(cell)) >= 3, "lines there")
    before = first.printed()
    waiting.wait_for(lambda cell: len(streams(cell)) >= 5, "more lines there")
    assert first.printed() == before
    signs.allow("go")
    waiting.finish()
    assert waiting.error is None, waiting.traceback
    # Before the end of the cell, and none is missing between the two.
    lines = [line.partition("says ")[2] for line in (first.printed() + waiting.printed()).splitlines()]
    assert lines == [*map(str, range(len(lines) - 1)), ""]


@pytest.mark.core
def test_lines_go_back_to_the_first_cell_when_nobody_waits_any_more(talking: Kernel, signs: Signs) -> None:
    """A timeout, and a ``break`` out of a loop, whose body is part of the wait."""
    first = talking.run("job = pmap(talk, ['a', 'b'])")
    first.wait_for(lambda cell: hears(cell, "says", 3), "lines")
    cell = talking.run("await job.wait(2)\nawait asyncio.sleep(0.5)\nprint('waited')")
    assert hears(cell, "a says", 3)
    mine = len(cell.printed())
    count = first.printed().count("says")
    first.wait_for(lambda cell: hears(cell, "says", count + 10), "lines again")
    assert len(cell.printed()) == mine
    quick = (
        "async def quick(x):\n    return await talk(x, '..' if x == 'a' else 'go')\nsecond = pmap(quick, ['a', 'b'])"
    )
    first = talking.run(quick)
    loop = """
    for each in second:
        time.sleep(2)
        break
    get_ipython().display_pub.publish({"text/plain": "broken off"})
    time.sleep(0.6)
    """
    cell = talking.run(loop)
    assert cell.printed().count("b says") >= 5
    kinds = [m.kind for m in cell.messages if m.kind in ("stream", "display_data")]
    assert kinds[-1] == "display_data"
    first.wait_for(lambda cell: hears(cell, "b says", 5), "lines again")


def test_of_two_cells_that_wait_the_last_one_hears(talking: Kernel, signs: Signs) -> None:
    """A task of the first one goes on waiting, and hears again when the other one is over."""
    first = talking.run("job = pmap(talk, ['a'])\nasync def wait(): await job\ntask = asyncio.create_task(wait())")
    second = talking.begin("await job.wait(2)")
    second.finish()
    assert hears(second, "a says", 3)
    count = first.printed().count("says")
    first.wait_for(lambda cell: hears(cell, "a says", count + 5), "lines again")


@pytest.mark.core
def test_ten_messages_a_second_at_most_and_the_first_at_once(kernel: Kernel, signs: Signs) -> None:
    """An item may print hundreds of lines a second: no line is lost on the way, and the browser is spared."""
    cell = kernel.begin(
        """
        async def many(x):
            n = 0
            while not os.path.exists(os.path.join(SIGNS, "go")):
                print(n)
                n += 1
                await asyncio.sleep(0.005)
            return n
        await pmap(many, range(2), batch=1)
        """
    )
    cell.wait_for(lambda cell: (sent := streams(cell)) and sent[-1][2] - sent[0][2] > 0.8, "lines of nearly a second")
    signs.allow("go")
    cell.finish()
    sent = streams(cell)
    span = sent[-1][2] - sent[0][2]
    assert len(sent) <= 10 * span + 4  # The first, and what is left at the end of the job and of the cell.
    for x in range(2):
        assert re.findall(rf"(?m)^\[item {x}\] (\d+)$", cell.printed()) == [str(n) for n in range(cell.value[x])]


def test_streams_that_alternate_are_not_a_message_for_each_line(kernel: Kernel) -> None:
    """Prints and log lines in turn: few messages, each stream in order."""
    cell = kernel.run(
        """
        def both(x):
            for n in range(100):
                print("out", n)
                print("err", n, file=sys.stderr)
        await pmap(both, [1])
        """
    )
    assert len(streams(cell)) < 30
    assert re.findall(r"out (\d+)", cell.printed()) == re.findall(r"err (\d+)", cell.printed("stderr"))
    assert re.findall(r"out (\d+)", cell.printed()) == [str(n) for n in range(100)]


@pytest.mark.core
def test_what_an_item_displays_comes_between_its_lines(kernel: Kernel) -> None:
    """In order, with every MIME type that it has."""
    cell = kernel.run(
        """
        def shows(x):
            from IPython.display import HTML, display
            print("before")
            display(HTML("<b>bold</b>"))
            print("after")
        await pmap(shows, [1], progress=False)
        """
    )
    parts = [
        m.content["text"] if m.kind == "stream" else m.content["data"]["text/html"]
        for m in cell.messages
        if m.kind in ("stream", "display_data")
    ]
    assert parts == ["[item 0] before\n", "<b>bold</b>", "[item 0] after\n"]


# --- the text itself -----------------------------------------------------------------------------------------------

RED, RESET = "\x1b[31m", "\x1b[0m"

TEXTS = [
    ("plain text, <b>, äöü, 日本", None),
    ("tab\there", None),
    (f"{RED}red{RESET}", None),
    (f"{RED}red", f"{RED}red{RESET}"),
    ("\x1b[2Kcleared\x1b[1A", "cleared"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("over\rwritten\b\b", "overwritten"),
    ("a\x00b\x07c\x1b", "abc"),
    ("c1 \x9b31m", "c1 31m"),
    ("half \ud83d", "half \N{REPLACEMENT CHARACTER}"),
]


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_colours_pass_and_nothing_else_is_obeyed(text: str, shown: str | None) -> None:
    """A front end would move, erase, link and beep as it is told."""
    assert coloured(text) == (text if shown is None else shown)
    assert line_of("item 7", text) == f"[item 7] {text if shown is None else shown}\n"
