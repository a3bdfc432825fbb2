"""Settings of all tests.

Hypothesis draws the same examples in every run, so that a failure is the change's and can be seen again;
`pytest --hypothesis-profile=explore` draws new ones. A busy machine is no failure, so examples have no deadline.

A test that waits in a mount for an answer that never comes could not even be killed: see support/aborting.py.
"""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.aborting import Watch

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("same")

SECONDS_MOST = 240.0
"""Less than pytest-timeout's limit, which cannot interrupt such a wait."""


@pytest.fixture(scope="session")
def watch() -> Watch:
    return Watch()


@pytest.fixture(autouse=os.geteuid() == 0)
def no_wait_for_ever(watch: Watch) -> Iterator[None]:
    watch.deadline = time.monotonic() + SECONDS_MOST
    yield
    watch.deadline = None
