"""What holds for every test run: a skip is said in one line, and where everything is installed it is a failure.

``AIOPOOL_NO_SKIPS=1`` is set where a missing package would be a mistake (``.ci/run``).
"""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest


def pytest_configure() -> None:
    """Listen to SIGINT, so that the processes which tests start and interrupt do.

    In the background of a shell, as in many a CI, it is switched off, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _skips(config: pytest.Config) -> Counter[str]:
    """Count what was skipped, by reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say each reason once, however many tests it stopped."""
    for reason, times in sorted(_skips(config).items()):
        terminalreporter.write_line(f"skipped {times} test{'s' if times > 1 else ''}: {reason}", yellow=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a run that passed into one that failed, if it skipped anything that it may not skip."""
    if os.environ.get("AIOPOOL_NO_SKIPS") == "1" and exitstatus == pytest.ExitCode.OK and _skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
