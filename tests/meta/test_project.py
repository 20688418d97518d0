"""What the project says about itself is true: its commands, links, settings, notebooks and wheel."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from itertools import chain
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "aiopool"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
MODULES = sorted(SOURCE.rglob("*.py"))
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))


def name(path: Path) -> str:
    """Name a file in a test's id."""
    return path.relative_to(ROOT).as_posix()


def settings() -> dict[str, Any]:
    """Read pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_command_that_a_page_names_exists(page):
    """Whoever types what a page says gets what the page promises."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    named = set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks), re.MULTILINE)) | set(
        re.findall(r"`make ([a-z-]+)", text)
    )
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_of_a_page_leads_somewhere(page):
    """A page links to files that are there."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_fits_a_short_sitting():
    """Somebody who wants to know whether this is for them reads two pages, not ten."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")], ids=name)
def test_code_that_a_page_shows_parses_and_imports_names_that_exist(page):
    """A reader may copy any block into a cell: it compiles there, and what it imports from us is public."""
    import aiopool

    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        tree = compile(block, str(page), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        imported = [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "aiopool"
            for alias in node.names
        ]
        used = [
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "aiopool"
        ]
        assert [public for public in [*imported, *used] if not hasattr(aiopool, public)] == []


def test_every_exception_to_a_rule_has_its_reason_beside_it():
    """A rule that is switched off without a reason stays off for ever."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lint = settings()["tool"]["ruff"]["lint"]
    ignored = [*lint["ignore"], *chain.from_iterable(lint["per-file-ignores"].values())]
    untyped = chain.from_iterable(part["module"] for part in settings()["tool"]["mypy"]["overrides"])
    warnings = settings()["tool"]["pytest"]["ini_options"]["filterwarnings"][1:]
    lacking = [
        entry
        for entry in [*ignored, *untyped, *warnings]
        if not re.search(rf"^ *[\"']{re.escape(entry)}[\"'], +# \S", text, re.MULTILINE)
    ]
    assert lacking == []


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_has_one_subject(module):
    """Past some five hundred lines a file has two subjects: find the second one a home."""
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("module", [module for module in MODULES if module != SOURCE / "__init__.py"], ids=name)
def test_rooms_know_each_other_by_path_and_not_through_the_front_door(module):
    """The front door knows every room, so a room that used it would know them all, unseen by the arrows."""
    rooms = {path.stem for path in SOURCE.iterdir()}
    tree = ast.parse(module.read_text(encoding="utf-8"))
    through_the_door = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(alias.name == "aiopool" for alias in node.names))
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "aiopool"
            and any(alias.name not in rooms for alias in node.names)
        )
    ]
    assert through_the_door == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_is_all_checked_and_reads_in_small_steps(path):
    """No cell escapes the run in a real kernel, every cell fits one look, and each stands for one idea."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    tags = set(chain.from_iterable(cell.metadata.get("tags", []) for cell in notebook.cells))
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert "nbval-skip" not in tags
    assert [source for source in code if len(source.splitlines()) > 16] == []
    assert [source for source in code if "NBVAL_SKIP" in source] == []


def test_the_quickstart_shows_a_main_result():
    """`make demo` has something to print."""
    notebook = nbformat.read(ROOT / "notebooks" / "01-quickstart.ipynb", as_version=4)
    assert any("main-result" in cell.metadata.get("tags", []) for cell in notebook.cells)


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(tmp_path):
    """What is installed is what stands in src, types marked as such, with the licence."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=50,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    expected = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {file for file in packed if not file.partition("/")[0].endswith(".dist-info")} == expected
    assert "aiopool/py.typed" in packed
    assert any(file.endswith("/LICENSE") for file in packed)


@pytest.mark.parametrize(("forbidden", "code"), [("0", pytest.ExitCode.OK), ("1", pytest.ExitCode.TESTS_FAILED)])
def test_a_skip_is_told_in_one_line_and_fails_where_none_is_allowed(tmp_path, monkeypatch, forbidden, code):
    """On a laptop a missing package costs its own tests; in CI it costs the run."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.parametrize('n', range(3))\n"
        "def test_it(n):\n    if n: pytest.skip('Chromium is missing: apt install chromium')\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AIOPOOL_NO_SKIPS", forbidden)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # The copy imports what stands beside the original.
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert run.returncode == code
    assert run.stdout.count("skipped 2 tests: Chromium is missing: apt install chromium") == 1
