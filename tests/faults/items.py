"""Items that strike when they are told to, from within each of the situations. Workers import this."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

from tests.pool.board import Board

Fault = Callable[[], object]

EIGHT = range(16)
"""The items of a map that has eight of them in flight on each of two workers."""

CULPRIT = 3


def _struck(board: Board) -> None:
    board.mark("struck", time.monotonic())


def since(board: Board) -> float:
    """How many seconds ago the fault struck last."""
    return time.monotonic() - float(board.wait("struck")[-1])


def later(board: Board, fault: Fault) -> int:
    """End, and strike when the worker has nothing to do any more; which one that is."""

    def strike() -> None:
        board.wait("go")
        _struck(board)
        try:
            fault()
        finally:
            board.mark("over")

    threading.Thread(target=strike, daemon=True).start()
    return os.getpid()


def alone(board: Board, fault: Fault) -> object:
    """Strike as the only item of the worker."""
    board.mark("running", os.getpid())
    board.wait("go")
    _struck(board)
    return fault()


def waits(board: Board) -> int:
    """Be the bystander on the other worker."""
    board.mark("standing by", os.getpid())
    board.wait("go")
    time.sleep(0.2)
    return os.getpid()


async def among(number: int, board: Board, fault: Fault) -> int:
    """Be one of many in flight; one of them strikes."""
    board.mark("running", os.getpid())
    await board.wait_async("go")
    if number == CULPRIT:
        _struck(board)
        struck = fault()
        if struck is not None:
            return struck
    await asyncio.sleep(0.01)
    return number


async def in_flight(number: int, board: Board) -> int:
    """Be one of many in flight, until told to end."""
    board.mark("running", os.getpid())
    await board.wait_async("go")
    return number


def held(board: Board) -> int:
    """Be the only one in flight on a worker, until told to end."""
    board.mark("running", os.getpid())
    board.wait("go")
    return os.getpid()
