"""Run a notebook in a real kernel, without a browser, and print what its main cells show.

    python notebooks/_run.py notebooks/01-quickstart.ipynb build/01-quickstart.ipynb

The executed notebook is written also when a cell fails, so that one can look. Cells tagged ``main-result`` are shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets import default

CELL_SECONDS = 300


class OwnKernelManager(AsyncKernelManager):
    """Starts the kernel of this very interpreter, whatever else is registered on the machine."""

    @default("kernel_spec_manager")
    def _only_ours(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[str(Path(sys.prefix) / "share" / "jupyter" / "kernels")])


def execute(source: Path, notebook: nbformat.NotebookNode) -> str | None:
    """Run every cell where the notebook lies; return what went wrong, if anything did."""
    client = NotebookClient(
        notebook,
        kernel_manager_class=OwnKernelManager,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(source.parent)}},
        on_cell_start=lambda **started: progress(started["cell_index"], notebook),
    )
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        progress(None, notebook)
    return None


def progress(index: int | None, notebook: nbformat.NotebookNode) -> None:
    """Say on a terminal which cell is running; None wipes the line."""
    if sys.stderr.isatty():
        told = "" if index is None else f"cell {index + 1} of {len(notebook.cells)}"
        print(f"\r\033[K{told}", end="", file=sys.stderr, flush=True)


def main_results(notebook: nbformat.NotebookNode) -> list[str]:
    """Return the text of what the cells tagged ``main-result`` show."""
    texts = []
    for cell in notebook.cells:
        if "main-result" not in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            texts.append(text.rstrip("\n"))
    return [text for text in texts if text]


def main() -> int:
    """Run the notebook named on the command line; the exit code is 1 if a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()

    notebook = nbformat.read(given.source, as_version=4)
    wrong = execute(given.source, notebook)
    given.target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, given.target)
    if wrong:
        print(wrong, file=sys.stderr)
    else:
        print(*main_results(notebook), sep="\n\n")
    print(f"\nThe executed notebook: {given.target}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
