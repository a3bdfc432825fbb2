"""A file that this process has open, read into the page cache by the kernel, without opening it once more.

SQLite's locks are the process's: to close any descriptor of a database gives up all of them (fcntl(2);
sqlite.org/howtocorrupt.html, 2.2). So its own descriptor is found, and used.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def warm_open_file(path: Path, most: int) -> None:
    """Have the kernel read a file that is open here, if it has at most so many bytes. What cannot be done is left."""
    with suppress(OSError):
        status = path.stat()
        if status.st_size <= most:
            for name in os.listdir("/proc/self/fd"):
                with suppress(OSError):  # closed meanwhile
                    if os.path.samestat(os.fstat(int(name)), status):
                        os.posix_fadvise(int(name), 0, 0, os.POSIX_FADV_WILLNEED)
                        return
