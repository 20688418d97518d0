"""Every exception a user can meet, grouped by who is at fault.

::

    AiopoolError
    ├── you         OptionError, InputError, NotPicklable, PoolClosed, WouldDeadlock, ResultsConsumed
    ├── the item    RemoteError, ItemExited, ItemTimeout
    ├── the job     JobCancelled, JobStopped, InputLost
    ├── the worker  WorkerLost, WorkerStartFailed
    └── us          FrameError, InternalError

An exception that an item raises arrives as itself wherever its type survives a round trip through pickle; only
otherwise does a :class:`RemoteError` stand in its place.
"""

from __future__ import annotations

__all__ = [
    "AiopoolError",
    "FrameError",
    "InputError",
    "InputLost",
    "InternalError",
    "ItemExited",
    "ItemTimeout",
    "JobCancelled",
    "JobStopped",
    "NotPicklable",
    "OptionError",
    "PoolClosed",
    "RemoteError",
    "ResultsConsumed",
    "WorkerLost",
    "WorkerStartFailed",
    "WouldDeadlock",
]


class AiopoolError(Exception):
    """The base of every exception of this library."""


# --- you -----------------------------------------------------------------------------------------------------------


class OptionError(AiopoolError, TypeError, ValueError):
    """An option does not exist or has a value that cannot be. Raised in the call; the message names the right one."""


class InputError(AiopoolError, TypeError):
    """What was passed cannot be mapped over, or the function cannot be called. The message says what to write."""


class NotPicklable(AiopoolError, TypeError):
    """A function, argument or result cannot travel between processes. The message names the part that cannot."""


class PoolClosed(AiopoolError, RuntimeError):
    """The pool takes no new jobs, because ``close()``, ``terminate()`` or leaving its ``with`` block ended it."""


class WouldDeadlock(AiopoolError, RuntimeError):
    """A blocking wait that could never return, because what it waits for needs this very thread. Await it instead."""


class ResultsConsumed(AiopoolError, RuntimeError):
    """The results of an unsized input were already handed out, and are not kept. Pass a list to read them twice."""


# --- the item ------------------------------------------------------------------------------------------------------


class RemoteError(AiopoolError):
    """An item raised an exception whose type cannot be rebuilt here. Its text and its traceback are the original's.

    ``type_name`` is the original's qualified name, ``traceback_text`` its formatted traceback.
    """

    def __init__(self, message: str = "", type_name: str = "", traceback_text: str = "") -> None:
        super().__init__(message)
        self.type_name = type_name
        self.traceback_text = traceback_text

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str, str]]:
        return type(self), (str(self.args[0]) if self.args else "", self.type_name, self.traceback_text)


class ItemExited(RemoteError):
    """An item raised SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError or StopIteration.

    Raised as they are, these would end or confuse the event loop of whoever waits; so they arrive wrapped.
    """


class ItemTimeout(AiopoolError, TimeoutError):
    """One attempt of an item took longer than ``timeout`` allows."""


# --- the job -------------------------------------------------------------------------------------------------------


class JobCancelled(AiopoolError):
    """The job was cancelled by ``cancel()``, by its pool's end, or from the panel, while somebody waited for it.

    What had finished is in ``job.partial()``; ``job.retry()`` runs the rest.
    """


class JobStopped(AiopoolError):
    """Stop (an interrupt) was pressed during a blocking wait; the job was cancelled and keeps what had finished."""


class InputLost(AiopoolError):
    """The event loop that fed an async input to the job has ended before the input had."""


# --- the worker ----------------------------------------------------------------------------------------------------


class WorkerLost(AiopoolError):
    """The worker process that ran this item died with it: killed, crashed, or ended by the item's own code.

    ``pid`` is the worker's, ``exitcode`` is as in :attr:`multiprocessing.Process.exitcode` (negative: a signal),
    ``signal`` the name of the signal that ended it, such as ``SIGSEGV``, else empty; ``stderr`` is the tail of what
    the worker wrote there. ``memory`` is what its process had when it was last looked at, which is once a second; where
    nobody here ended it by that signal, or nobody had looked, the most that it ever had; in bytes, None where that is
    not known. ``reason`` is "memory" if the pool killed it for taking more than ``max_memory_per_worker`` allows, else
    empty. ``hint`` says what points at the system having run out of memory, else it is empty.
    """

    def __init__(
        self,
        message: str = "",
        pid: int | None = None,
        exitcode: int | None = None,
        stderr: str = "",
        *,
        signal: str = "",
        memory: int | None = None,
        reason: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.pid = pid
        self.exitcode = exitcode
        self.stderr = stderr
        self.signal = signal
        self.memory = memory
        self.reason = reason
        self.hint = hint

    def __reduce__(self) -> tuple[type[WorkerLost], tuple[str], dict[str, object]]:
        return type(self), (str(self.args[0]) if self.args else "",), self.__dict__


class WorkerStartFailed(AiopoolError):
    """Workers cannot start: the initializer raised, or each of several in a row died or hung before its first item.

    ``__cause__`` is what the initializer raised. Else the message says how the last one ended, with its last lines; of
    one that did not start within ``start_timeout`` with the line at which it hung.
    """


# --- us ------------------------------------------------------------------------------------------------------------


class FrameError(AiopoolError):
    """Bytes on a worker's pipe are not a frame. The worker that wrote them is given up; others are untouched."""


class InternalError(AiopoolError):
    """This should never happen. Please report it, with the traceback."""
