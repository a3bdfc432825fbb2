"""The same tree through our mount and others' (fuse-overlayfs, borg, restic, pyfuse3, fusepy), warm and cold."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.inside import Root
from benchmarks.measure import FailedError, drop_caches, in_turns
from benchmarks.pairs import Pairs
from benchmarks.peers.servers import Ours, Plain, Server, servers
from benchmarks.report import Section
from benchmarks.sections.overlays import FIND, PYTHON, READ_ALL
from benchmarks.setting import Setting

_LINES = {"find": FIND, "read every file": READ_ALL, "python3": PYTHON}
_COLD_ROUNDS = {"find": 5, "read every file": 3, "python3": 7}
_WARM_ROUNDS = {"find": 11, "read every file": 5, "python3": 11}


def serving(setting: Setting) -> list[Section]:
    """One table: a row a server, two columns a program."""
    return [_Scene(setting).measured()]


class _Scene:
    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._source = setting.debian()
        self._section = Section("The same tree through other servers", "server")
        self._section.note(
            "The mounts themselves, with no overlay above. Medians. Cold: a new process of the server each time, and "
            "the machine's caches dropped when it serves. Warm: after the same program has run once."
        )
        self._servers = self._prepared()

    def measured(self) -> Section:
        cold = {line: self._cold(line) for line in _LINES}
        warm = self._warm()
        for server in self._servers:  # the rows in their order, the columns in pairs
            for line in _LINES:
                for caches, found in (("cold", cold[line]), ("warm", warm[line])):
                    if found.get(server.name):
                        self._section.put(server.name, f"{caches} {line}", _milliseconds(found[server.name]), "ms")
        for line in _LINES:
            self._claim(f"cold {line}", cold[line])
            self._claim(f"warm {line}", warm[line])
        return self._section

    def _place(self, server: Server) -> Path:
        return self._setting.place(f"server-{server.name.replace(' ', '-')}")

    def _prepared(self) -> list[Server]:
        found = []
        for server in servers():
            if self._setting.only and server.name not in self._setting.only:
                continue
            why = server.absent()
            if not why:
                try:
                    self._place(server).mkdir()
                    server.prepare(self._place(server), self._source)
                except FailedError as error:
                    why = str(error)
            if why:
                self._leave_out(server, why)
            else:
                found.append(server)
                if server.note:
                    self._section.note(server.note)
        return found

    def _leave_out(self, server: Server, why: str) -> None:
        self._section.note(f"{server.name} is left out: {' '.join(why.split())[:300]}.")

    def _trials(self, rounds: int, work: Mapping[Server, Callable[[], float]]) -> dict[str, list[float]]:
        """Each in turns. Who fails is noted, and asked no more in this program."""
        failed: set[str] = set()

        def attempt(server: Server, _: int) -> float:
            if server.name not in failed:
                try:
                    return work[server]()
                except (FailedError, OSError) as error:
                    failed.add(server.name)
                    self._leave_out(server, str(error))
            return 0.0

        found = in_turns(rounds, {server.name: partial(attempt, server) for server in work})
        return {name: times for name, times in found.items() if name not in failed}

    def _rounds(self, most: int) -> int:
        return self._setting.rounds if self._setting.quick else max(most, self._setting.rounds)

    def _cold(self, line: str) -> dict[str, list[float]]:
        def once(server: Server) -> float:
            with server.serving(self._place(server), self._source) as root:
                drop_caches()
                return root.run(_LINES[line])

        work = {server: partial(once, server) for server in self._servers}
        return self._trials(self._rounds(_COLD_ROUNDS[line]), work)

    def _warm(self) -> dict[str, dict[str, list[float]]]:
        found = {}
        with contextlib.ExitStack() as stack:
            roots: dict[Server, Root] = {}
            for server in self._servers:
                try:
                    roots[server] = stack.enter_context(server.serving(self._place(server), self._source))
                except FailedError as error:
                    self._leave_out(server, str(error))
            for line, words in _LINES.items():
                work = {server: partial(root.run, words) for server, root in roots.items()}
                self._trials(1, work)
                found[line] = self._trials(self._rounds(_WARM_ROUNDS[line]), work)
        return found

    def _claim(self, what: str, found: dict[str, list[float]]) -> None:
        """Each round has a time of ours and of everybody; who comes closest to ours in the median of rounds counts."""
        ours = found.get(Ours.name)
        others = {name: times for name, times in found.items() if name not in (Ours.name, Plain.name)}
        if ours and others:
            ratios = {name: Pairs(ours, times).ratio for name, times in others.items()}
            closest = max(ratios, key=lambda name: ratios[name])
            self._section.claim("8", f"{what}: our mount to the fastest other server ({closest})", ratios[closest], 1.0)


def _milliseconds(times: list[float]) -> float:
    return statistics.median(times) * 1e3
