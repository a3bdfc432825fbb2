"""Which ids a user namespace has: from /etc/subuid and /etc/subgid to newuidmap(1)'s arguments, and back from
/proc/self/uid_map (user_namespaces(7), subuid(5))."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple


class Span(NamedTuple):
    """Consecutive ids."""

    first: int
    size: int


class Mapped(NamedTuple):
    """A line of a map: ids inside, and those outside that they stand for."""

    inside: int
    outside: int
    size: int


def subordinate(text: str, names: Sequence[str]) -> list[Span]:
    """The spans that /etc/subuid or /etc/subgid, whose content is `text`, gives to a user: by name or by number.

    >>> subordinate("ana:100000:65536\\nbob:165536:65536\\n", ["ana", "1000"])
    [Span(first=100000, size=65536)]
    """
    found = []
    for line in text.splitlines():
        name, _, span = line.strip().partition(":")
        first, _, size = span.partition(":")
        if name in names and first.isdecimal() and size.isdecimal() and int(size):
            found.append(Span(int(first), int(size)))
    return found


def arguments(own: int, spans: Sequence[Span]) -> list[str]:
    """newuidmap's or newgidmap's: the user is 0 inside, and from 1 on come the spans in their order.

    >>> arguments(1000, [Span(100000, 65536)])
    ['0', '1000', '1', '1', '100000', '65536']
    """
    lines = [Mapped(0, own, 1)]
    for span in spans:
        lines.append(Mapped(lines[-1].inside + lines[-1].size, span.first, span.size))
    return [str(number) for line in lines for number in line]


def parse_map(text: str) -> list[Mapped]:
    """The lines of a uid_map or gid_map."""
    return [Mapped(*map(int, line.split())) for line in text.splitlines()]


def free_span(text: str, size: int = 65536) -> Span:
    """Where, after everything that /etc/subuid gives away, there is room for a span; what to recommend."""
    ends = [100000]
    for line in text.splitlines():
        _, _, span = line.strip().partition(":")
        first, _, length = span.partition(":")
        if first.isdecimal() and length.isdecimal():
            ends.append(int(first) + int(length))
    return Span(max(ends), size)


@lru_cache(1)
def last_ids() -> tuple[int, int]:
    """The highest user and group id of this process's user namespace, of those that begin with 0 and have no gap."""
    return _last("uid_map"), _last("gid_map")


def _last(name: str) -> int:
    end = 0
    for line in sorted(parse_map(Path("/proc/self", name).read_text())):
        if line.inside == end:
            end += line.size
    return max(end - 1, 0)
