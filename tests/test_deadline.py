"""A file system that nobody serves does not hold up the tests."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from fusefs import mounting
from tests.support.deadline import REQUEST_TIMEOUT, abort_below, requests_end

SECONDS = 30.0


def test_aborting_ends_a_request_that_nobody_answers(tmp_path: Path) -> None:
    point = tmp_path / "mnt"
    point.mkdir()
    device = mounting.open_device()
    mounted = mounting.mount(device, point, f"treering:{tmp_path}/store")
    found: list[OSError] = []

    def look() -> None:
        try:
            os.listdir(point)
        except OSError as error:
            found.append(error)

    waiting = threading.Thread(target=look, daemon=True)
    try:
        waiting.start()
        os.read(device, 128 << 10)  # the kernel's INIT: from here on, a request is in the hands of who does not answer
        assert abort_below(tmp_path) == [mounted.device]
        waiting.join(SECONDS)
        assert [error.errno for error in found] in ([errno.ENOTCONN], [errno.ECONNABORTED])
    finally:
        os.close(device)
        mounting.detach(point)
    assert abort_below(tmp_path) == []


def test_the_kernels_own_deadline_is_put_back() -> None:
    if not REQUEST_TIMEOUT.exists():
        return  # Linux before 6.15
    before = REQUEST_TIMEOUT.read_text()
    with requests_end(100):
        assert int(REQUEST_TIMEOUT.read_text()) == 100
        with requests_end(200):
            assert int(REQUEST_TIMEOUT.read_text()) == 100
    assert REQUEST_TIMEOUT.read_text() == before
