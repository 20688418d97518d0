"""Getting hold of the widget's class without waiting for it: importing ipywidgets takes a moment, or is impossible."""

from __future__ import annotations

import importlib
import logging
import threading
from typing import Any

__all__ = ["Loader"]

log = logging.getLogger("aiopool")


class Loader:
    """Imports the widget once, on a thread of its own: a pool's must not stand still, nor a cell."""

    def __init__(self) -> None:
        self.widget: Any = None
        """The class, once it is there."""
        self.broken = False
        """Whether it cannot be had."""
        self._lock = threading.Lock()
        self._begun = False

    def load(self) -> None:
        """Begin, if that has not been done."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
        threading.Thread(target=self._load, name="aiopool-widget", daemon=True).start()

    def give_up(self, why: BaseException) -> None:
        """Do without, and say so once."""
        with self._lock:
            told, self.broken = self.broken, True
        if not told:
            log.warning(
                "jobs are shown as HTML that is changed in place, without buttons: the widget failed with %s: %s",
                type(why).__name__,
                why,
            )

    def _load(self) -> None:
        try:
            self.widget = importlib.import_module("aiopool.jupyter.widget").Live
        except Exception as error:  # noqa: BLE001 - whatever is wrong there, no job fails because of it
            self.give_up(error)
