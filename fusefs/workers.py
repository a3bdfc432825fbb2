"""The workers of a mount, as the holder sees them: started, watched, replaced.

    opening   it imports and opens the store
    spare     it waits to be told to serve; one is kept, so that a successor serves within milliseconds
    serving   it has a slot of the request memory
    gone      dead, or as good as that: a process that was killed lives on while a thread of it waits for a page that
              only a successor can bring, and so may one that waits for a disk

What a dead worker had in hand is sent again (FUSE_NOTIFY_RESEND, Linux 6.9), or its successor finds it in the request
memory. A request in whose midst three workers crashed is answered with EIO. That somebody else sends SIGKILL says
little about the request in hand, but the kernel does so too, to a process that takes too much memory: it counts a
little.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from selectors import EVENT_READ, BaseSelector
from typing import Any

from fusefs.crashes import KILL_COUNTS, Crashes, header_of, unique_of
from fusefs.journal import Journal
from fusefs.memory import SLOTS, Counts, RequestMemory
from fusefs.process import Launch, Stage, Worker, is_dead, spawn, state_of
from fusefs.wire import replies
from fusefs.wire.protocol import Init

_log = logging.getLogger(__name__)

TICK = 0.25
"""Seconds between two looks at all workers."""
_ENDED, _LEFT = 0, 64
"""Exit codes: see worker.py, which is not imported here since it brings the store's libraries with it."""
_OPENING_SECONDS = 60.0
_BEGINNING_SECONDS = 5.0
"""What it may take to begin, at the least: CPython waits for ever for a thread that dies of too little memory before it
has begun (Thread.start)."""
_BACKOFF_FIRST, _BACKOFF_MOST, _BACKOFF_SPARE = 0.05, 2.0, 30.0
"""Seconds before the next worker is started after one that could not open the store; longer if another one serves."""
_GIVE_UP_SECONDS = 120.0
_SPARE_DELAY = 5.0
"""Seconds after the first serves before a spare is started: who has started the service wants the processors. With 0.5
a cold `find` in a new overlay took a tenth longer."""


@dataclass
class Workers:
    """All of them. Methods are called from the holder's loop alone; `selector` is its own, with callables as data."""

    launch: Launch
    memory: RequestMemory
    journal: Journal
    wanted: int
    hung_seconds: float
    selector: BaseSelector
    on_failed: Callable[[dict[str, Any]], None]
    """A worker could not open the store."""
    on_reads: Callable[[dict[str, Any]], None] = lambda _: None
    """A worker says what was read in a start (startings.py)."""
    replaced: int = 0
    is_over: bool = False
    """Whether the file system is unmounted everywhere, or nobody can serve it: no worker is started any more."""
    _begun: bool = False
    _live: list[Worker] = field(default_factory=list)
    _remains: list[Worker] = field(default_factory=list)
    """Gone, but their processes have not ended."""
    _past: Counts = field(default_factory=Counts)
    _crashes: Crashes = field(default_factory=Crashes)
    _left: list[bytes] = field(default_factory=list)
    """Requests that dead workers had in hand, for their successors; on kernels that do not send them again."""
    _failures: int = 0
    _failing_since: float = 0.0
    _not_before: float = 0.0
    _spare_from: float = 0.0
    _waiting: list[Callable[[], None]] = field(default_factory=list)

    # -- from outside

    def start(self) -> None:
        """Have workers open the store, before it is mounted."""
        self._fill()

    def begin(self) -> None:
        """It is mounted: serve."""
        self._begun = True
        self._spare_from = time.monotonic() + _SPARE_DELAY
        self._fill()

    @property
    def are_open(self) -> bool:
        """Whether as many as are wanted have opened the store."""
        return sum(worker.stage is not Stage.OPENING for worker in self._live) >= self.wanted

    @property
    def are_serving(self) -> bool:
        """Whether one has answered INIT."""
        return any(worker.is_confirmed for worker in self._live)

    @property
    def are_gone(self) -> bool:
        """Whether the file system has ended, and all processes with it."""
        return self.is_over and not self._live

    def pids(self) -> list[int]:
        """Those that serve."""
        return [worker.process.pid for worker in self._live if worker.stage is Stage.SERVING]

    def counts(self) -> Counts:
        """What all have done so far; the nodes are those that living ones have."""
        total = self._past
        for worker in self._live:
            if worker.stage is Stage.SERVING:
                total += self.memory.slot(worker.slot).counts
        return total

    def tell(self, message: dict[str, Any]) -> int:
        """Tell those that serve; returns how many that are."""
        line = json.dumps(message).encode() + b"\n"
        told = 0
        for worker in self._live:
            if worker.is_confirmed and not worker.is_leaving:
                with suppress(OSError):  # it is dead, or does not listen: noticed soon
                    worker.channel.sendall(line)
                    told += 1
        return told

    def restart(self, done: Callable[[], None]) -> None:
        """Replace all by new processes: each leaves when it has answered what it has in hand and a new one serves."""
        for worker in self._live:
            worker.is_outdated = True
            if worker.stage is not Stage.SERVING:
                worker.process.kill()
        self._waiting.append(done)
        self._fill()

    def end(self) -> None:
        """Kill all: nothing is mounted."""
        self.is_over = True
        for worker in [*self._live, *self._remains]:
            worker.process.kill()
            worker.process.wait()
            worker.channel.close()
        self._live.clear()
        self._remains.clear()

    # -- watching

    def reap(self) -> None:
        """A child may have ended (SIGCHLD)."""
        for worker in list(self._live):
            if worker.process.poll() is not None:
                self._gone(worker, worker.process.returncode)
        for worker in list(self._remains):
            if worker.process.poll() is not None:
                self._remains.remove(worker)
        self._fill()

    def tick(self) -> None:
        """Look at each of them."""
        now = time.monotonic()
        for worker in list(self._live):
            state = state_of(worker.process.pid)
            if is_dead(state) and worker.process.poll() is not None:
                self._gone(worker, worker.process.returncode)
            elif is_dead(state) or (worker.killed is not None and now - worker.killed > TICK / 2):
                self._gone(worker, -signal.SIGKILL)
            elif state == "T":
                self._kill(worker, "was stopped", KILL_COUNTS)
            elif worker.stage is Stage.SERVING:
                self._look(worker, now)
            elif worker.stage is Stage.OPENING and now - worker.started > _OPENING_SECONDS:
                self._kill(worker, "does not open the store", 0)
            if worker.is_leaving:
                worker.process.terminate()  # again: the first may have come just before it waited for a request
        self.reap()

    def _look(self, worker: Worker, now: float) -> None:
        """Whether it is at the same request for too long, or does not begin."""
        if not worker.is_up:
            if now - worker.since > max(self.hung_seconds, _BEGINNING_SECONDS):
                self._kill(worker, "does not begin to serve", 0)
            return
        slot = self.memory.slot(worker.slot)
        unique = unique_of(slot.request) if slot.length else 0
        if unique != worker.seen or not unique:
            worker.seen, worker.since = unique, now
        elif now - worker.since > self.hung_seconds:
            self._kill(worker, f"hangs in a request for {now - worker.since:.1f} seconds", 1)

    def _kill(self, worker: Worker, why: str, weight: float) -> None:
        if worker.killed is None:
            _log.warning("worker %d %s: killed", worker.process.pid, why)
            worker.killed, worker.weight = time.monotonic(), weight
            worker.process.kill()

    # -- ends

    def _gone(self, worker: Worker, status: int) -> None:
        """It serves no more; `status` is as subprocess tells it."""
        self._live.remove(worker)
        if worker.process.returncode is None:
            self._remains.append(worker)
        with suppress(KeyError):
            self.selector.unregister(worker.channel)
        worker.channel.close()
        if worker.stage is Stage.SERVING:
            self._served(worker, status)
        elif worker.stage is Stage.OPENING and not worker.is_outdated:
            self._failed_to_open()
        if self._waiting and not any(each.is_outdated for each in self._live):
            waiting, self._waiting = self._waiting, []
            for done in waiting:
                done()

    def _served(self, worker: Worker, status: int) -> None:
        slot = self.memory.slot(worker.slot)
        counts = slot.counts
        self._past += Counts(counts.messages, 0, counts.given, counts.profiled)
        request = slot.request
        if status == _ENDED:
            self.is_over = True
            return
        self.replaced += 1
        if status != _LEFT:
            _log.warning("worker %d ended with status %d", worker.process.pid, status)
        weight = worker.weight if status == -signal.SIGKILL else 0 if status == _LEFT else 1
        if request and self._crashes.is_poison(request, weight):
            self._write(replies.error(header_of(request).unique, errno.EIO))
            request = b""
        if self._resends:
            self._write(replies.resend())
        elif request:
            self._left.append(request)
        # Not before: if we die first, others find it there.
        slot.owner = 0
        if worker.process.returncode is not None:
            slot.done(0, 0, 0)

    @property
    def _resends(self) -> bool:
        negotiated = self.memory.negotiated
        return negotiated is not None and bool(negotiated[0] & Init.HAS_RESEND)

    def _write(self, message: bytes) -> None:
        with suppress(OSError):  # unmounted, or nobody waits for it
            os.write(self.launch.device, message)

    def _failed_to_open(self) -> None:
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        most = _BACKOFF_SPARE if self.pids() else _BACKOFF_MOST
        self._not_before = now + min(most, _BACKOFF_FIRST * 2 ** min(self._failures, 10))
        if now - self._failing_since > _GIVE_UP_SECONDS and not self.pids():
            _log.error("no worker can open the store any more: giving up")
            self.is_over = True

    # -- beginnings

    def _fill(self) -> None:
        """Start what is missing, and have spares serve where somebody is missing; end them when all is over."""
        if self.is_over:
            for worker in self._live:
                if worker.stage is not Stage.SERVING:
                    worker.process.kill()
            return
        current = [worker for worker in self._live if not worker.is_outdated]
        if self._begun:
            serving = sum(worker.stage is Stage.SERVING for worker in current)
            spares = [worker for worker in current if worker.stage is Stage.SPARE]
            for worker in spares[: max(0, self.wanted - serving)]:
                self._go(worker)
        now = time.monotonic()
        if now >= self._not_before:
            wants_spare = self._begun and self.are_serving and now >= self._spare_from
            for _ in range(self.wanted + wants_spare - len(current)):
                self._spawn()

    def _spawn(self) -> None:
        worker = spawn(self.launch, self.journal.descriptor, self.memory.descriptor, self._begun)
        self._live.append(worker)
        self.selector.register(worker.channel, EVENT_READ, lambda: self._receive(worker))

    def _go(self, worker: Worker) -> None:
        taken = {other.slot for other in [*self._live, *self._remains]}
        worker.slot = next(number for number in range(SLOTS) if number not in taken)
        slot = self.memory.slot(worker.slot)
        slot.done(0, 0, 0)
        if self._left:
            slot.request = self._left.pop(0)
        worker.stage, worker.since = Stage.SERVING, time.monotonic()
        with suppress(OSError):  # it is dead: noticed soon
            worker.channel.sendall(b'{"slot": %d}\n' % worker.slot)

    def _receive(self, worker: Worker) -> None:
        if worker not in self._live:
            return  # it went in the same turn
        try:
            data = worker.channel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(worker.channel)  # its death is noticed by itself
            return
        *lines, worker.received = (worker.received + data).split(b"\n")
        for line in lines:
            self._told(worker, json.loads(line))
        self._fill()

    def _told(self, worker: Worker, message: dict[str, Any]) -> None:
        if "failed" in message:
            self.on_failed(message["failed"])
        elif "opened" in message:
            worker.stage = Stage.SPARE
            self._failures = 0
        elif "up" in message:
            worker.is_up = True
        elif "serving" in message:
            worker.is_confirmed = True
            self._retire()
        elif "reads" in message:
            self.on_reads(message)

    def _retire(self) -> None:
        """Let as many outdated ones go as there are new ones that serve."""
        serving = [worker for worker in self._live if worker.stage is Stage.SERVING and not worker.is_leaving]
        for worker in [worker for worker in serving if worker.is_outdated][: max(0, len(serving) - self.wanted)]:
            worker.is_leaving = True
            worker.process.terminate()
