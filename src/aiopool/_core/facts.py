"""What the ledger is told (facts) and what it orders (commands): plain frozen data.

Workers, jobs and batches are named by numbers that are never used twice in one pool. An item is named by its job and
its index there; inside a batch by its position.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aiopool.frozen import frozen

Kind = Literal["async", "def"]
How = Literal["done", "failed", "cancelled", "stopped"]

# --- facts: jobs -----------------------------------------------------------------------------------------------------


@frozen
class JobOpened:
    """A new job. ``size`` is None for an unsized input; ``batch`` None lets the ledger choose.

    ``concurrency`` None is one item per worker, however many workers there are at the time.

    ``timeout`` in seconds per attempt; ``retries`` further attempts after an error that may be mended, each after
    ``backoff`` seconds, None for waits that double; ``retry_timeouts``: an attempt that was overdue when its worker
    died may be mended, too. ``rate`` starts per second, every attempt counted.

    ``single``: a submit. ``pinned``: each item goes to the worker whose place in the pool is the item's number, or
    anywhere where there is no such place any more. The items of both are supplied unasked, each in a batch of its own.
    A submit has no timeout and no retries, and neither of them a rate.
    """

    job: int
    kind: Kind
    size: int | None
    concurrency: int | None
    batch: int | None = None
    window: int | None = None
    rerun_lost: bool = True
    stop_on_failure: bool = True
    single: bool = False
    pinned: bool = False
    timeout: float | None = None
    retries: int = 0
    backoff: float | None = None
    retry_timeouts: bool = True
    rate: float | None = None


@frozen
class Departed:
    """A submit that was sent to this worker, one of :meth:`Ledger.takers`, before anybody told of it."""

    opened: JobOpened
    worker: int
    batch: int


@frozen
class Supplied:
    """Items of the job, at least one, are ready to be sent as one batch: read from the input, or made once more."""

    job: int
    batch: int
    items: Sequence[int]


@frozen
class Refused:
    """An item ended before it was sent, or sent again: its argument cannot travel, or reading it raised."""

    job: int
    index: int


@frozen
class InputEnded:
    """The input has ended; there are ``total`` items in all, those of earlier facts included."""

    job: int
    total: int


@frozen
class InputBroken:
    """Reading the input raised after ``total`` items. They may end; then the job ends as failed."""

    job: int
    total: int


@frozen
class CancelAsked:
    """Somebody wants the job to end now."""

    job: int
    how: Literal["cancelled", "stopped"]


@frozen
class PauseAsked:
    """Nothing more of this job shall start."""

    job: int


@frozen
class ResumeAsked:
    """The job may go on."""

    job: int


# --- facts: workers --------------------------------------------------------------------------------------------------


@frozen
class WorkerReady:
    """A worker waits for work."""

    worker: int


@frozen
class WorkerBroken:
    """A worker said that it cannot be set up; ``hopeless``: the next one would say the same."""

    worker: int
    hopeless: bool = True


@frozen
class WorkerGone:
    """A worker's process has ended and all that it had sent was told before; nothing is told of it after.

    ``running`` are the (batch, position) that had started and not ended; ``stepping`` is the one at work. With
    ``frames.ANY_SPOT`` among them, there were too many to tell, and each that it held may have started.
    """

    worker: int
    running: frozenset[tuple[int, int]] = frozenset()
    stepping: tuple[int, int] | None = None
    chance: float = 0.0


@frozen
class Finished:
    """Items ended with values; ``seconds`` is what they took together."""

    worker: int
    batch: int
    positions: Sequence[int]
    seconds: float


@frozen
class ItemFailed:
    """An attempt ended with an error, or had taken too long when it ended.

    ``may_retry``: another attempt may mend it. ``after`` is how long the item itself asked to wait before that.
    ``chance`` is a random number from 0 to 1, below 1: the ledger has none of its own.
    """

    worker: int
    batch: int
    position: int
    seconds: float
    may_retry: bool = False
    timed_out: bool = False
    after: float | None = None
    chance: float = 0.0


@frozen
class ItemOverdue:
    """An attempt has had its time, and was told to end; the worker has the pool's grace to make it."""

    worker: int
    batch: int
    position: int


@frozen
class WorkerAnswered:
    """The answer to SendPing."""

    worker: int


@frozen
class WorkerHeavy:
    """The worker has more memory than the pool allows one; ``far``: so much more that it shall end at once."""

    worker: int
    far: bool = False


@frozen
class WorkersOutdated:
    """These workers must take nothing of jobs that open from now on: what they have imported has changed."""

    workers: Sequence[int]


@frozen
class Returned:
    """The answer to AskBack: these items have not started and will not."""

    worker: int
    job: int
    batches: Sequence[int]
    positions: Sequence[int]


@frozen
class Cleared:
    """The answer to CancelOn: the worker holds nothing of the job any more."""

    worker: int
    job: int


@frozen
class CancelHeld:
    """A cancelled job's items have not felt it, and cannot: another job's item holds the worker's loop."""

    worker: int
    job: int


# --- facts: the pool -------------------------------------------------------------------------------------------------


@frozen
class Resized:
    """The pool shall have ``size`` workers; ``Reached(token)`` follows when it has no more than that."""

    size: int
    token: int


@frozen
class RestartAsked:
    """Every worker shall be replaced; with ``now`` at once, and its items run again."""

    token: int
    now: bool = False


@frozen
class WorkerRestartAsked:
    """This worker, which may be gone, shall be replaced, as by RestartAsked; ``Reached(token)`` follows."""

    worker: int
    token: int
    now: bool = False


@frozen
class WarmUpAsked:
    """So many workers shall be there although nothing is to do, as far as the pool may have them."""

    count: int


@frozen
class StartChanged:
    """What workers do when they start has changed: where they could not start, they may be able to now."""


@frozen
class CloseAsked:
    """No new jobs; the pool ends when the jobs have."""


@frozen
class TerminateAsked:
    """The pool ends now, its jobs are cancelled."""


@frozen
class TimePassed:
    """The moment that WakeAt asked for has come."""


Fact = (
    JobOpened | Departed | Supplied | Refused | InputEnded | InputBroken | CancelAsked | PauseAsked | ResumeAsked
    | WorkerReady | WorkerBroken | WorkerGone | WorkerAnswered | WorkerHeavy | WorkersOutdated
    | Finished | ItemFailed | ItemOverdue | Returned | Cleared | CancelHeld
    | Resized | RestartAsked | WorkerRestartAsked | WarmUpAsked | StartChanged
    | CloseAsked | TerminateAsked | TimePassed
)  # fmt: skip

# --- commands --------------------------------------------------------------------------------------------------------


@frozen
class StartWorker:
    """Start a worker for this place of the pool."""

    worker: int
    index: int


@frozen
class SendFunction:
    """The worker does not know this job's function yet."""

    worker: int
    job: int


@frozen
class SendBatch:
    """The worker shall run this batch, stepping up to ``lanes`` items of the job at a time.

    ``attempt`` is 1 for items that run for the first time.
    """

    worker: int
    job: int
    batch: int
    lanes: int
    attempt: int = 1


@frozen
class SendAskBack:
    """The worker shall hand back what it has not started, but for one of ``parts`` equal parts, rounded down."""

    worker: int
    job: int
    parts: int


@frozen
class CancelOn:
    """The worker shall drop the job."""

    worker: int
    job: int


@frozen
class ForgetOn:
    """The worker needs the job's function no more."""

    worker: int
    job: int


@frozen
class SendPing:
    """The worker shall say that it is there."""

    worker: int


@frozen
class HangUp:
    """The worker has nothing left and shall end."""

    worker: int


@frozen
class Kill:
    """The worker shall end now. ``why`` is for people."""

    worker: int
    why: str


@frozen
class Supply:
    """Read the job's input on, up to ``upto`` items in all, in batches of ``size``; ``hungry``: somebody idles.

    A batch is supplied when it is full, when ``upto`` is reached or the input ends, and at once while somebody idles.
    """

    job: int
    upto: int
    size: int
    hungry: bool


@frozen
class Recode:
    """Make one batch of these items once more: a Supplied follows, or a Refused for those that cannot be."""

    job: int
    items: Sequence[int]


@frozen
class SettleLost:
    """The item ends as WorkerLost, and this worker's death is the reason.

    ``reason`` is "memory" where the worker was killed because of what this item took of it. ``hopeless``: perhaps it
    was not to blame, but so many workers have died in a row that nobody is tried again.
    """

    job: int
    index: int
    worker: int
    attempts: int = 1
    reason: Literal["", "memory"] = ""
    hopeless: bool = False


@frozen
class SettleFailed:
    """The item ends with the error that its last attempt, which has just been told of, ended with."""

    job: int
    index: int
    attempts: int


@frozen
class SettleTimedOut:
    """The item ends as ItemTimeout: its last attempt was overdue when its worker died, mostly killed for that."""

    job: int
    index: int
    worker: int
    attempts: int


@frozen
class End:
    """The job has ended. Nothing of it follows. ``retried`` attempts were made beyond the first ones of its items."""

    job: int
    how: How
    retried: int = 0


@frozen
class EndStartFailed:
    """The job has ended because workers cannot start."""

    job: int


@frozen
class Reached:
    """What the token was given for has been reached."""

    token: int


@frozen
class PoolEnded:
    """The pool is closed and its last worker gone."""


@frozen
class WakeAt:
    """Tell TimePassed at this time, if not before. It replaces the one ordered before, which was for later."""

    time: float


Command = (
    StartWorker | SendFunction | SendBatch | SendAskBack | SendPing | CancelOn | ForgetOn | HangUp | Kill
    | Supply | Recode | SettleFailed | SettleTimedOut | SettleLost | End | EndStartFailed | Reached | PoolEnded | WakeAt
)  # fmt: skip
