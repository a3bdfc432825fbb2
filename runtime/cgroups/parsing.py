"""The kernel's files about cgroups and processes, as values. Pure: bytes in, values out, nothing is ever raised.

What is not understood is left out: files grow new lines with each kernel, and one may be cut off where its cgroup was
removed while it was read. Formats: cgroup-v1/ and cgroup-v2 of the kernel's admin-guide, proc(5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

Source = Literal["cgroup", "processes", "nothing"]

_UNLIMITED = 1 << 62
"""No limit of cgroup v1 reads as 2^63 less one page, of whatever size pages are."""
_DIGITS_MOST = 20
"""Of 2^64."""
TICKS = 100
"""USER_HZ: of every architecture that Linux runs on today."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a container uses and has used since it was started; None where that is not known."""

    cpu_seconds: float | None = None
    user_seconds: float | None = None
    system_seconds: float | None = None
    memory_bytes: int | None = None
    """Now, less what the kernel would give back first: pages of files that nobody has read lately."""
    memory_limit: int | None = None
    memory_peak: int | None = None
    """The most it ever used, pages of files included."""
    pids: int | None = None
    """Threads, as the kernel counts them."""
    pids_limit: int | None = None
    read_bytes: int | None = None
    """From disks; what a cache answered is not in it."""
    written_bytes: int | None = None
    read_operations: int | None = None
    write_operations: int | None = None
    oom_kills: int | None = None
    source: Source = "nothing"
    """Who said so: the container's cgroup, or (less exactly) the processes that live now."""


class Transfers(NamedTuple):
    """What went from and to disks."""

    read_bytes: int
    written_bytes: int
    read_operations: int
    write_operations: int


class Stat(NamedTuple):
    """A process, from /proc/PID/stat. Times in ticks."""

    parent: int
    user: int
    system: int
    children_user: int
    """Of those that have ended and were waited for, and theirs."""
    children_system: int
    threads: int
    start: int
    """Since the machine booted."""
    resident: int
    """Pages."""


def number(text: bytes | None) -> int | None:
    """A file that holds one number. `max`, the limits of v1 that are none, and whatever else: None."""
    word = (text or b"").strip()
    if not _is_number(word):
        return None
    found = int(word)
    return found if found < _UNLIMITED else None


def _is_number(word: bytes) -> bool:
    """Whether a word is a number of a size that the kernel writes."""
    return word.isdigit() and len(word) <= _DIGITS_MOST


def keyed(text: bytes | None) -> dict[bytes, int]:
    """Lines of a name and a number: cpu.stat, memory.stat, memory.events, cgroup.events, memory.oom_control."""
    found = {}
    for line in (text or b"").splitlines():
        words = line.split()
        if len(words) == 2 and _is_number(words[1]):
            found[words[0]] = int(words[1])
    return found


def blkio(text: bytes | None) -> tuple[int, int] | None:
    """Reads and writes of all devices, in v1's blkio.throttle.io_service_bytes and io_serviced; None if unreadable."""
    if text is None:
        return None
    sums = {b"Read": 0, b"Write": 0}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in sums and _is_number(words[2]):
            sums[words[1]] += int(words[2])
    return sums[b"Read"], sums[b"Write"]


def io_stat(text: bytes | None) -> Transfers | None:
    """The sum over all devices of v2's io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`; None if unreadable."""
    if text is None:
        return None
    sums = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
    for word in text.split():
        name, _, value = word.partition(b"=")
        if name in sums and _is_number(value):
            sums[name] += int(value)
    return Transfers(*sums.values())


def cpu_max(text: bytes | None) -> tuple[int | None, int]:
    """v2's cpu.max: microseconds of processor time, None for any number, in each period of so many microseconds."""
    words = (text or b"").split()
    quota = int(words[0]) if words and _is_number(words[0]) else None
    period = int(words[1]) if len(words) > 1 and _is_number(words[1]) else 0
    return quota, period or 100_000


def memberships(text: bytes) -> dict[str, str]:
    """/proc/PID/cgroup: the path of a process's cgroup for each v1 controller, and for v2 under the name ``.

    >>> memberships(b"3:cpu,cpuacct:/a\\n1:name=systemd:/b\\n0::/c\\n")
    {'cpu': '/a', 'cpuacct': '/a', 'name=systemd': '/b', '': '/c'}
    """
    found = {}
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[0].isdecimal() and parts[2].startswith("/"):
            found.update(dict.fromkeys(parts[1].split(","), parts[2]))
    return found


def stat(text: bytes | None) -> Stat | None:
    """/proc/PID/stat. The name before the numbers may hold spaces and parentheses."""
    fields = text[text.rfind(b")") + 1 :].split() if text else []
    if len(fields) < 22:
        return None
    try:
        parent, user, system, children_user, children_system, threads, start, resident = (
            int(fields[number - 3]) for number in (4, 14, 15, 16, 17, 20, 22, 24)
        )
    except ValueError:
        return None
    return Stat(parent, user, system, children_user, children_system, threads, start, resident)


_FIELD = re.compile(rb"^(\w+):\s+(\d{1,20})(?: kB)?$", re.MULTILINE)


def fields(text: bytes | None) -> dict[bytes, int]:
    """Lines `Name:  number`, perhaps with kB behind it: /proc/PID/io, smaps_rollup, /proc/meminfo."""
    return {name: int(value) for name, value in _FIELD.findall(text or b"")}
