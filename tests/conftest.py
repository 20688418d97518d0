"""What holds for every test run: a skip is said in one line, and where everything is installed it is a failure.

``AIOPOOL_NO_SKIPS=1`` is set where a missing package would be a mistake (``.ci/run``). ``AIOPOOL_WITHOUT=pidfd,memfd``
runs the tests as on a system without these (``tests/without``).

Hypothesis has all the time that it needs, because others use the machine too. Where no skip is allowed it plays the
same games each time: what chance finds is for whoever works on it, and is no reason to refuse what another has changed.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings

from tests import without

settings.register_profile(
    "tests",
    deadline=None,
    derandomize=os.environ.get("AIOPOOL_NO_SKIPS") == "1",
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")

_said: dict[str, list[str]] = {}


def pytest_configure() -> None:
    """Listen to SIGINT, so that the processes which tests start and interrupt do.

    In the background of a shell, as in many a CI, it is switched off, and children inherit that.
    """
    if os.environ.get(without.VARIABLE):
        from tests.without import sitecustomize

        # For this process the import has done it; workers get the variable from here.
        os.environ["PYTHONPATH"] = without.python_path(*filter(None, [os.environ.get("PYTHONPATH")]))
        assert sitecustomize
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep what a test says of itself, for the summary: figures, and what the machine let it do."""
    if report.when == "call":
        for name, said in report.user_properties:
            _said.setdefault(name, []).append(str(said))


def _skips(config: pytest.Config) -> Counter[str]:
    """Count what was skipped, by reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    reports = reporter.stats.get("skipped", []) if reporter else []
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what tests have said, and each reason for a skip once, however many tests it stopped."""
    for name, said in sorted(_said.items()):
        terminalreporter.write_line(f"{name}: {', '.join(said)}")
    for reason, times in sorted(_skips(config).items()):
        terminalreporter.write_line(f"skipped {times} test{'s' if times > 1 else ''}: {reason}", yellow=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Turn a run that passed into one that failed, if it skipped anything that it may not skip."""
    if os.environ.get("AIOPOOL_NO_SKIPS") == "1" and exitstatus == pytest.ExitCode.OK and _skips(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
