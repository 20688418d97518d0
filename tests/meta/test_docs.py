"""The pages hang together: every name, page and anchor is there, tables are drawn, and Binder can read its folder."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

import aiopool
from aiopool import Job, Pool
from tests.core import test_ledger

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def name(path: Path) -> str:
    """Name a file in a test's id."""
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and Sphinx make of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_anchor_that_a_page_links_to_is_there(page):
    """A link leads to the paragraph that it promises, and not to the top of a long page."""
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    lost = [
        f"{target}#{anchor}"
        for target, anchor in links
        if anchor not in anchors((page.parent / target) if target else page)
    ]
    assert lost == []


def test_every_page_can_be_found():
    """From the first page on, by a table of contents, and not only by whoever knows its name."""
    contents = [*DOCS.rglob("index.md")]
    listed = {
        (page.parent / f"{entry}.md").resolve()
        for page in contents
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for entry in re.findall(r"^[^:\n].*$", tree, re.MULTILINE)
    }
    assert {*DOCS.rglob("*.md")} - {DOCS / "index.md"} - listed == set()


def test_the_api_page_has_every_public_name():
    """What can be imported is told about; and what the page names is there."""
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    named = re.findall(r"\.\. auto\w+:: aiopool\.(\w+)$", page, re.MULTILINE)
    errors = re.search(r"^\.\. the names under which they are imported:(.*?)^$", page, re.DOTALL | re.MULTILINE)
    assert errors is not None
    assert "automodule:: aiopool.errors" in page
    assert {*named, *errors[1].split()} >= set(aiopool.__all__)
    assert [extra for extra in {*named, *errors[1].split()} - {"errors"} if not hasattr(aiopool, extra)] == []


def left_out(public: type) -> set[str]:
    """Methods that the API page does not show."""
    page = (DOCS / "api.rst").read_text(encoding="utf-8")
    found = re.search(rf"aiopool\.{public.__name__}\n   :exclude-members: (.*)", page)
    assert found is not None
    return set(found[1].split(", "))


@pytest.mark.parametrize("public", [Pool, Job], ids=lambda public: public.__name__)
def test_the_api_page_leaves_out_only_what_is_there(public):
    """A method that was renamed is no longer left out by its old name."""
    assert [left for left in left_out(public) if not hasattr(public, left)] == []


def test_the_page_on_maps_names_everything_that_a_job_can_do():
    """Who reads that one page knows of every method there is."""
    page = (DOCS / "maps.md").read_text(encoding="utf-8")
    methods = {method for method, _ in inspect.getmembers(Job, inspect.isfunction) if not method.startswith("_")}
    assert [method for method in sorted(methods - left_out(Job)) if not re.search(rf"\b{method}\(", page)] == []


def test_the_page_on_maps_has_every_option_of_configure():
    """In the order of the table the first two change the pool, and all others open another one."""
    page = (DOCS / "maps.md").read_text(encoding="utf-8").partition("## The pool behind it")[2].partition("\n## ")[0]
    options = [*inspect.signature(aiopool.configure).parameters]
    table = re.findall(r"^\| `(\w+)`", page, re.MULTILINE)
    assert sorted(table) == sorted(options)
    assert table[:2] == ["workers", "concurrency"]
    words = {5: "five", 6: "six", 7: "seven", 8: "eight"}
    assert f"one of the last {words[len(options) - 2]} " in page


def test_a_pool_tells_of_all_its_options():
    """What may stand in the call is explained where one looks for it."""
    told = inspect.getdoc(Pool) or ""
    silent = [option for option in inspect.signature(Pool).parameters if not re.search(rf"\b{option}\b", told)]
    assert silent == []


def test_the_questions_can_be_read_where_nothing_is_built():
    """GitHub shows no table of contents: the page has links to all of them."""
    index = (DOCS / "how-to" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (DOCS / "how-to").glob("*.md")} - {"index.md"}
    assert pages - set(re.findall(r"\]\((\w+\.md)\)", index)) == set()


def test_every_public_name_has_a_docstring():
    """The API page is made of them."""
    silent = [public for public in aiopool.__all__ if not (getattr(aiopool, public).__doc__ or "").strip()]
    assert silent == []


# --- tables drawn from the ledger ------------------------------------------------------------------------------------


def loaded(path):
    """A module that no package has."""
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ledger_tables():
    """The module that draws them, from beside the pages."""
    return loaded(DOCS / "ledger_tables.py")


def test_the_tables_of_states_are_complete(monkeypatch):
    """Whatever hypothesis plays with the ledger, it sees no change of state that the tables do not show."""
    tables = ledger_tables()
    shown = [set(seen) for seen in tables.play()]
    seen = [set(), set()]

    class Watched(tables.Watched):
        def tell(self, fact):
            orders = super().tell(fact)
            seen[0].update(self.workers_seen)
            seen[1].update(self.items_seen)
            return orders

    monkeypatch.setattr(test_ledger, "World", Watched)
    run_state_machine_as_test(
        test_ledger.LedgerMachine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert seen[0] - shown[0] == set()
    assert seen[1] - shown[1] == set()
    assert len(seen[1]) > 8, "hypothesis has hardly played"


def test_the_tables_of_states_name_all_states():
    """Each state has its meaning, and is reached."""
    tables = ledger_tables()
    for words, seen in zip((tables.WORKERS, tables.ITEMS), tables.play(), strict=True):
        assert {state for change in seen for state in change} == set(words)


# --- Binder ----------------------------------------------------------------------------------------------------------


def test_binder_can_read_its_folder():
    """It finds a Python that this project supports, and both files; nothing is built."""
    done = subprocess.run(
        [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Building conda environment for python=3.12" in said
    assert 'pip install --no-cache-dir -r "binder/requirements.txt"' in said
    assert "RUN ./binder/postBuild" in said


def test_binder_is_pinned():
    """What ran once runs in a year. What is pinned is what the notebooks and the package ask for."""
    lines = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w-]+==[\d.]+", pin)] == []
    assert {"anywidget", "ipykernel", "ipywidgets"} <= {pin.partition("==")[0] for pin in pins}
    assert (ROOT / "binder" / "postBuild").stat().st_mode & 0o111


def test_a_rehearsal_takes_the_python_that_binder_takes():
    """What is pinned need not exist for another one: then it ends at once, and says what to do."""
    rehearse = loaded(ROOT / "binder" / "rehearse.py")
    own = "python-{}.{}".format(*sys.version_info)
    assert rehearse.interpreter(own) == sys.executable
    with pytest.raises(SystemExit, match=r"make binder VENV=\.venv-2\.9 PYTHON=/path/to/python2\.9"):
        rehearse.interpreter("python-2.9")
