"""Tab in a real kernel: behind ``%aiopool``, in the head of a ``%%aiopool`` cell, and in its body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.harness import Kernel

pytestmark = pytest.mark.kernel

NAMES = """
%load_ext aiopool
import string
urls = ["a", "b"]
pages = {"first page": 1}
limit = 3
"""


@pytest.fixture(params=["jedi", "no jedi"])
def tab(kernel: Kernel, request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """The shared kernel, in which IPython completes with jedi, or without."""
    kernel.run(NAMES)
    before = kernel.value("get_ipython().Completer.use_jedi")
    kernel.run(f"get_ipython().Completer.use_jedi = {request.param == 'jedi'}")
    yield kernel
    kernel.run(f"get_ipython().Completer.use_jedi = {before}")


def completed(kernel: Kernel, cell: str) -> list[str]:
    """How the cell reads up to the cursor, which is where ``|`` stands, with each of what is offered there."""
    before, bar, after = cell.partition("|")
    assert bar
    reply = kernel.complete(before + after, len(before))
    assert reply["status"] == "ok"
    start = before[: reply["cursor_start"]]
    # Everything that is replaced ends at the cursor, and in its line.
    assert reply["cursor_end"] == len(before)
    assert "\n" not in before[len(start) :]
    return [start + match for match in reply["matches"]]


@pytest.mark.core
@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("%aiopool res|", ["%aiopool resize", "%aiopool restart"]),
        ("urls\n%aiopool configure --threads-per-worker |", ["urls\n%aiopool configure --threads-per-worker auto"]),
        ("%%aiopool url in urls --timeo|", ["%%aiopool url in urls --timeout"]),
        ("%%aiopool url in urls --on-error re|\nurl", ["%%aiopool url in urls --on-error return"]),
        ("%%aiopool url in ur|", ["%%aiopool url in urls"]),
        ("%%aiopool url in urls --timeout lim|", ["%%aiopool url in urls --timeout limit"]),
        ("%%aiopool url in urls -> pa|", ["%%aiopool url in urls -> pages"]),
        ("# first\n\n%%aiopool url in urls --retri|", ["# first\n\n%%aiopool url in urls --retries"]),
    ],
)
def test_what_we_know_is_offered_and_nothing_beside_it(tab, cell, wanted):
    """No file of the folder, no magic, no name that cannot stand there."""
    assert sorted(completed(tab, cell)) == sorted(wanted)


@pytest.mark.core
@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("%%aiopool url in string.ascii_l|", "%%aiopool url in string.ascii_letters"),
        ("%%aiopool url in urls --retry-on string.ascii_l|", "%%aiopool url in urls --retry-on string.ascii_letters"),
        ("%%aiopool url in urls\nstring.ascii_l|", "%%aiopool url in urls\nstring.ascii_letters"),
        ("%%aiopool url in urls\nx = lim|", "%%aiopool url in urls\nx = limit"),
        ("%%aiopool url in urls\nenumer|", "%%aiopool url in urls\nenumerate"),
        (
            "%%aiopool url in urls\nif urls:\n    pages['fir|",
            "%%aiopool url in urls\nif urls:\n    pages['first page",
        ),
        ("%%aiopool url in urls\nprint(ur|", "%%aiopool url in urls\nprint(url"),
        ("%%aiopool url in urls\nprint(ur|", "%%aiopool url in urls\nprint(urls"),
    ],
)
def test_ipython_goes_on_to_complete_what_is_its_own(tab, cell, wanted):
    """Attributes everywhere, and in the body all that it completes elsewhere, beside the names of the head."""
    assert wanted in completed(tab, cell)


def test_a_body_is_offered_what_all_cells_have_defined(tab):
    """The notebook itself has no such name."""
    tab.run("%%aiopool --all\nhuge_model = 1")
    assert "%%aiopool url in urls\nhuge_model" in completed(tab, "%%aiopool url in urls\nhuge_m|")
    assert "%%aiopool\nhuge_model" in completed(tab, "%%aiopool\nhuge_m|")
    assert "huge_model" not in completed(tab, "huge_m|")


def test_other_cells_are_completed_as_before(tab):
    """Also those that speak of us."""
    assert completed(tab, "x = '%%aiopool'\nlimi|") == ["x = '%%aiopool'\nlimit"]
    assert "aiopool.pmap" in completed(tab, "aiopool.pm|")
    assert "%%aiopool" in completed(tab, "%%aiop|")


def test_loading_twice_offers_everything_once_and_unloading_nothing(own_kernel):
    """There is one completer of ours, whatever was loaded how often."""
    own_kernel.run(NAMES)
    own_kernel.run("%load_ext aiopool\n%reload_ext aiopool")
    assert completed(own_kernel, "%aiopool resi|") == ["%aiopool resize"]
    own_kernel.run("%unload_ext aiopool")
    assert "%aiopool resize" not in completed(own_kernel, "%aiopool resi|")
