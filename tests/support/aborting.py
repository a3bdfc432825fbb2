"""The end of a FUSE connection that nobody answers.

Who waits for an answer cannot be interrupted; if the request was taken by somebody who has died, not even be killed,
as long as a descriptor of the connection is open. Aborting the connection fails whatever waits.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

from fusefs import mounting

_CONTROL = Path("/sys/fs/fuse/connections")


def abort(device: str) -> None:
    """Have the kernel fail whatever waits for an answer, and whatever comes. `device` is as in mountinfo."""
    if not any(_CONTROL.iterdir()):
        mounting._libc().mount(b"fusectl", os.fsencode(_CONTROL), b"fusectl", 0, b"")
    with contextlib.suppress(OSError):
        (_CONTROL / device.partition(":")[2] / "abort").write_text("1")


class Watch:
    """Aborts the connections of mounts below the temporary directory once a test takes too long: a test that waits
    inside such a mount then fails, instead of hanging for ever."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def _watch(self) -> None:
        top = os.fsencode(tempfile.gettempdir())
        while True:
            time.sleep(1)
            deadline = self.deadline
            if deadline is not None and time.monotonic() > deadline:
                for mount in mounting.mounts():
                    if mount.filesystem == mounting.FILESYSTEM and mount.point.startswith(top):
                        abort(mount.device)
