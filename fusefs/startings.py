"""Starts of containers, as the holder sees them: clients tell of them, and workers follow them (starts.py).

    holder -> worker   {"starting": 7, "root": ..., "profile": ...}    start number 7 begins
                       {"started": 7}                                  it is over: what was read?
    worker -> holder   {"reads": 7, "objects": [...], "size": ..., "new": ...}

Each worker has seen a part of what was read, and what all of them have seen is put together. A worker that dies in
between takes its part with it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fusefs.workers import Workers

_SECONDS = 2.0
"""How long workers are waited for."""


@dataclass(slots=True)
class _Asked:
    """A client that waits for what was read."""

    answer: Callable[[dict[str, Any]], None]
    missing: int
    until: float
    objects: dict[str, None] = field(default_factory=dict)
    size: int = 0
    new: int = 0


class Startings:
    """All starts of one service."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._workers.on_reads = self._told
        self._last = 0
        self._begun: dict[socket.socket, int] = {}
        self._asked: dict[int, _Asked] = {}

    def begin(self, client: socket.socket, root: str, profile: str | None) -> None:
        """A client is about to start a container on a root (hexadecimal)."""
        self.end(client)
        self._last += 1
        self._begun[client] = self._last
        self._workers.tell({"starting": self._last, "root": root, "profile": profile})

    def finish(self, client: socket.socket, answer: Callable[[dict[str, Any]], None]) -> None:
        """The client's start is over; `answer` is called with what was read, now or soon."""
        number = self._begun.pop(client, None)
        told = self._workers.tell({"started": number}) if number is not None else 0
        asked = _Asked(answer, told, time.monotonic() + _SECONDS)
        if number is None or not told:
            _answer(asked)
        else:
            self._asked[number] = asked

    def end(self, client: socket.socket) -> None:
        """The client's start is over, if it has begun one, and nobody wants to know."""
        if client in self._begun:
            self.finish(client, lambda _: None)

    def tick(self) -> None:
        """Answer those who have waited long enough; called a few times a second."""
        now = time.monotonic()
        for number in [number for number, asked in self._asked.items() if asked.until < now]:
            _answer(self._asked.pop(number))

    def _told(self, message: dict[str, Any]) -> None:
        """A worker says what it has seen."""
        number = message["reads"]
        asked = self._asked.get(number)
        if asked is None:
            return
        asked.objects.update(dict.fromkeys(message["objects"]))
        asked.size += message["size"]
        asked.new += message["new"]
        asked.missing -= 1
        if not asked.missing:
            _answer(self._asked.pop(number))


def _answer(asked: _Asked) -> None:
    asked.answer({"ok": True, "objects": list(asked.objects), "size": asked.size, "new": asked.new})
