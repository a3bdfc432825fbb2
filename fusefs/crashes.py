"""Requests in whose midst workers died, and which of them have them crash."""

from __future__ import annotations

import logging

from fusefs.wire import requests
from fusefs.wire.protocol import UNIQUE_RESEND

_log = logging.getLogger(__name__)

CRASHES_MOST = 3
KILL_COUNTS = 1 / 32
"""How much of a crash a SIGKILL is whose sender nobody knows."""
_BLAMED_MOST = 256


class Crashes:
    """What is held against the last requests that somebody died of, in crashes."""

    def __init__(self) -> None:
        self._weights: dict[int, float] = {}

    def is_poison(self, request: bytes, weight: float) -> bool:
        """Whether too many have died of a request, which they had in hand."""
        unique = unique_of(request)
        if not unique:
            return False
        weight = self._weights[unique] = self._weights.pop(unique, 0.0) + weight
        while len(self._weights) > _BLAMED_MOST:
            del self._weights[next(iter(self._weights))]
        if weight < CRASHES_MOST:
            return False
        header = header_of(request)
        _log.error("workers crash in request %d of node %d: answered with EIO", header.opcode, header.nodeid)
        return True


def header_of(request: bytes) -> requests.Header:
    """What every request begins with; it must be there whole."""
    _, opcode, unique, nodeid, uid, gid, pid, _, _ = requests.HEADER.unpack_from(request)
    return requests.Header(len(request), opcode, unique, nodeid, uid, gid, pid)


def unique_of(request: bytes) -> int:
    """What names a request however often it is sent; 0 for one that has no answer."""
    return header_of(request).unique & ~UNIQUE_RESEND if len(request) >= requests.HEADER_SIZE else 0
