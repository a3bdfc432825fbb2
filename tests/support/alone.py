"""Something done in a fork that has no other children: who traces (tests.torture.tracer) waits for any."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path


def alone(work: Callable[[], object], errors: Path) -> None:
    """Do it. What it raises is written to `errors`, and an AssertionError here."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            errors.write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, errors.read_text()
