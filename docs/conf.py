"""How `make docs` builds the pages. The source is the whole repository, so that links are the same as on GitHub."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from aiopool import __version__

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs"), str(ROOT)]  # ledger_tables, and the tests' world that it plays in

project = "aiopool"
author = "The aiopool developers"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "ledger_tables"]
root_doc = "docs/index"
include_patterns = ["docs/**", "notebooks/*.ipynb", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
# Not only skipped but never walked into.
exclude_patterns = [".*", "build", "dist", "src", "tests", "benchmarks", "binder", "**/.ipynb_checkpoints"]

# --- pages -----------------------------------------------------------------------------------------------------------

myst_heading_anchors = 4  # as GitHub makes them; a link to one that is not there is a warning, and that an error
highlight_language = "none"  # what a block is stands on its fence

# --- notebooks: run in a real kernel, and again only when a cell has changed -----------------------------------------

nb_execution_mode = "cache"
nb_execution_cache_path = str(ROOT / "build" / "docs-notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
# A page has no kernel behind it: a panel is the HTML that it leaves, as in any saved notebook.
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]
nb_merge_streams = True
os.environ.setdefault("JUPYTER_PREFER_ENV_PATH", "1")

# --- the API ---------------------------------------------------------------------------------------------------------

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

# --- links -----------------------------------------------------------------------------------------------------------

linkcheck_anchors = False  # GitHub and JupyterLab make theirs in the browser
linkcheck_timeout = 20
linkcheck_retries = 2

# --- looks -----------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "aiopool"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_copyright = False


def setup(app: Any) -> None:
    """Put a page in front: the first one lies in docs/, as it does in the repository. Leave out how jobs are made."""
    app.connect("build-finished", _front_page)
    app.connect("autodoc-process-signature", _signature)


def _signature(_app: Any, _what: str, name: str, *_: Any) -> tuple[str, None] | None:
    """None leaves a signature as it is; no user makes a job, so that one goes."""
    return ("", None) if name == "aiopool.Job" else None


def _front_page(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(
            '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">'
            '<a href="docs/index.html">aiopool</a>\n',
            encoding="utf-8",
        )
