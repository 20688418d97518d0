"""The end of a kernel: its own threads end in the order in which they need each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.harness import Kernel

pytestmark = pytest.mark.kernel

SLOW_TO_ANSWER = """
def slowed(kernel, file):
    publish = kernel._publish_status_and_flush
    def slow(status, channel, *args, **kwargs):
        if channel == "control" and kernel.shell.exit_now:
            # As when the main thread has the processor.
            time.sleep(0.3)
            way_out = "open" if kernel.iopub_thread.thread.is_alive() else "gone"
            with open(file, "w") as told:
                told.write(f"{status}, and the way out is {way_out}")
        return publish(status, channel, *args, **kwargs)
    kernel._publish_status_and_flush = slow
"""


@pytest.mark.core
@pytest.mark.parametrize("how", ["restart", "shutdown"])
def test_the_kernel_answers_a_shutdown_before_it_closes_the_way_out(
    own_kernel: Kernel, tmp_path: Path, how: str
) -> None:
    """Its main thread could close it while the control thread is about to answer: both would wait for ever."""
    told = tmp_path / "told"
    own_kernel.run(SLOW_TO_ANSWER)
    own_kernel.run(f"assert await pmap(abs, [-1]) == [1]\nslowed(get_ipython().kernel, {str(told)!r})")
    own_kernel.restart() if how == "restart" else own_kernel.shutdown()
    assert told.read_text() == "idle, and the way out is open"
