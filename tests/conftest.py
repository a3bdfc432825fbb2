"""Settings of all tests.

Hypothesis draws the same examples in every run, so that a failure is the change's and can be seen again;
`pytest --hypothesis-profile=explore` draws new ones. A busy machine is no failure, so examples have no deadline.

A test that hangs fails, whatever it hangs in: pytest-timeout ends most, support/deadline.py the others.

`make test` runs several files at once (pytest-xdist), each process with mounts of its own: what is mounted for a test
must be gone when that has unmounted it, and not when the containers of others end that began meanwhile.
"""

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from runtime.system.mounts import private_mount_namespace
from tests.support.deadline import Watchdog, hide_control, requests_end

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("same")


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of what a shell runs in the background; tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if os.environ.get("PYTEST_XDIST_WORKER") and os.geteuid() == 0:
        private_mount_namespace()


@pytest.fixture(scope="session", autouse=True)
def _deadlines(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[None]:
    request.config.stash[_WATCHDOG] = Watchdog(tmp_path_factory.getbasetemp())
    with requests_end():
        yield
    hide_control()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    watchdog = item.config.stash.get(_WATCHDOG, None)
    if watchdog is not None:  # made by the first test
        watchdog.begin(item.nodeid, _seconds(item))
    try:
        return (yield)
    finally:
        if watchdog is not None:
            watchdog.end()


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    own = marker.args[0] if marker and marker.args else None
    return float(own or item.config.getini("timeout") or 300)


_WATCHDOG = pytest.StashKey[Watchdog]()
