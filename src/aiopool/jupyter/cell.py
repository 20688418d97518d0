"""The cell that is being run, and the way to put something under it later, from any thread."""

from __future__ import annotations

from typing import Any

from IPython.core.getipython import get_ipython


def this_kernel() -> Any:
    """The ipykernel that runs in this process, or None."""
    shell: Any = get_ipython()
    return getattr(shell, "kernel", None)


class Cell:
    """The cell that was running when this was made.

    Its messages name that cell as their parent themselves. What is printed or displayed from a thread goes to whatever
    cell runs last instead, and on ipykernel 7.1 and later into the log of the browser after a click on a widget.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._parent = kernel.get_parent("shell")

    def send(self, kind: str, content: dict[str, Any]) -> None:
        """Publish a message as if the cell itself had."""
        kernel = self._kernel
        kernel.session.send(kernel.iopub_socket, kind, content, parent=self._parent, ident=self._topic(kind))

    def _topic(self, kind: str) -> bytes:
        """What front ends subscribe to; the kernel's own method for it was renamed between versions."""
        return f"kernel.{self._kernel.ident}.{kind}".encode()

    def display(self, display_id: str, text: str, *, update: bool) -> None:
        """Show a line of text, or put another one in its place."""
        content = {"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": display_id}}
        self.send("update_display_data" if update else "display_data", content)

    def stream(self, text: str) -> None:
        """Print lines."""
        self.send("stream", {"name": "stdout", "text": text})
