"""Whether a file that changes after it was looked at has another time stamp then.

The kernel stamps ctime from a clock that ticks every few milliseconds (whole seconds on some file systems), so a file
changed twice within a tick has the same status before and after: git calls such an entry racy. A file whose ctime was
older than a tick when its reading began is not: any later change gets another ctime. Nobody but who sets the machine's
clock can forge a ctime.
"""

from __future__ import annotations

import os

_TICK = 20_000_000
"""Twice the longest tick of the kernel's coarse clock (CONFIG_HZ=100), in ns."""
_SECOND = 1_000_000_000


def is_settled(status: os.stat_result, now_ns: int) -> bool:
    """Whether any change after `now_ns` (time_ns) gives the file another status: the racy rule above."""
    changed = max(status.st_ctime_ns, status.st_mtime_ns)
    tick = _TICK if status.st_ctime_ns % _SECOND else 2 * _SECOND
    return changed + tick < now_ns
