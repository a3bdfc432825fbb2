"""A container's state, read: as it rests, as it runs, or, while it runs, as it was at one moment.

    at rest    the upper is scanned; what an earlier commit saw of it is gone by (runtime.upper)
    running    the same; each file is as it was at some moment, and not all at the same
    at once    1. everything is read as above, while the container runs, and what happens meanwhile is watched
               2. the container is frozen
               3. what may have changed since 1 is read again, into memory
               4. it goes on; what was read is compressed and stored

So the container stands still for what happened while step 1 read, and not for what it wrote since its last commit, nor
for what it has. docs/upper.md says why nothing is missed. Nothing is synced for it: what we read comes through the same
page cache into which the container writes, dirty or not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runtime.capturing.openfiles import OpenFiles, open_files, processes_of
from runtime.capturing.staging import Staging
from runtime.capturing.standstill import Standstill, noted, release
from runtime.cgroups import Cgroup
from runtime.containers import Container
from runtime.state import Running, boot_id, state_of
from runtime.stubs import read_stubs
from runtime.upper import Distrust, Seen, UpperResult, prefix_of, scan_upper
from runtime.upper.clones import Clones
from runtime.upper.look import Changes, Hints, add_paths, look_at, look_everywhere
from runtime.upper.seen import load, save
from runtime.upper.unfinished import remove_unfinished
from runtime.upper.watch import Watch, watched
from vcs.errors import Conflict
from vcs.existing import is_directory
from vcs.ignore import Ignore, Patterns
from vcs.store import Store
from vcs.trees import Objects, Sink

SEEN = "seen"
"""In a generation's directory."""


@dataclass(frozen=True, slots=True)
class _Late:
    """What is left for when the container goes on."""

    clones: Clones
    go_on: Callable[[], None]


def _nothing() -> None:
    pass


class Capture:
    """Reads the state of one container. Who stores what is read holds the container's lock."""

    def __init__(self, store: Store, container: Container, exclude: Patterns | None = None) -> None:
        """What `exclude` matches is read as it is in the base."""
        self._store = store
        self._leave_out = Ignore(exclude, files=False) if exclude else None
        self._container = container
        self._base = store.snapshot_of(container.base)
        self._generation = container.paths.generation(container.record.current)
        state = state_of(container.paths.directory)
        self._init = state.pid if isinstance(state, Running) else None
        self._group = Cgroup.find(container.id, self._init)
        release(container.paths.directory, self._group)

    def now(self, sink: Sink) -> UpperResult:
        """The state as it is found."""
        if not is_directory(self._container.upper):  # it was never started: the first start makes its upper
            nothing = Seen(self._base.id, self._base.id, True, {})
            return UpperResult(self._base.id, self._base.root, 0, 0, 0, 0, (), nothing)
        if self._init is None:
            remove_unfinished(self._generation)
        since = time.time_ns()
        return self._scan(sink, since, self._open_files(), self.seen)

    @property
    def can_freeze(self) -> bool:
        """Whether the container runs, and can be made to stand still. If it is paused, it does so already."""
        return self._init is not None and self._group.exists and not self._group.frozen

    def at_once(self, batch: Sink, was_read: Callable[[], None]) -> tuple[UpperResult, float]:
        """The state at one moment, and the seconds for which the container, which can_freeze, stood still. `was_read`
        is called as soon as it goes on.

        EngineError if its processes do not stop, Conflict if reading takes too long; then it goes on.
        """
        staging = Staging(self._store, batch)
        directory = self._container.paths.directory
        with noted(directory), Standstill(self._group) as still, ExitStack() as stack:
            watch = watched(self._container.upper)
            if watch is not None:
                stack.callback(watch.close)
            first, held = self._while_it_runs(staging)
            if watch is not None:
                watch.read()
            clones = Clones(self._generation)
            stack.callback(clones.close)
            stood: list[float] = []

            def go_on() -> None:
                if not stood:
                    stood.append(still.thaw())
                    was_read()
                    staging.release()

            staging.hold()
            still.freeze()
            since = time.time_ns()
            found = self._standing(staging, since, first, held, watch, clones, go_on)
            go_on()
        staging.finish(found.root)
        return found, stood[0]

    def _while_it_runs(self, staging: Staging) -> tuple[UpperResult | None, OpenFiles]:
        since = time.time_ns()
        held = self._open_files()
        with suppress(Conflict):  # directories are moved about: that will end when it stands still
            return self._scan(staging, since, held, self.seen), held
        return None, held

    def _standing(
        self,
        staging: Staging,
        since: int,
        first: UpperResult | None,
        before: OpenFiles,
        watch: Watch | None,
        clones: Clones,
        go_on: Callable[[], None],
    ) -> UpperResult:
        """Read again what may have changed since `first` was read; when that is done, `go_on`."""
        held = self._open_files()
        late = _Late(clones, go_on)
        if first is None or not first.seen.plain:
            return self._scan(staging, since, held, first.seen if first else self.seen, staging, late=late)
        mapped = before.mapped | held.mapped
        hints = Hints(paths=mapped | held.writable, inodes=before.nameless | held.nameless)
        if watch is not None:
            watch.read()
            hints.names = watch.hints.names
            hints.inodes |= watch.hints.inodes
        if watch is not None and watch.complete and not held.rings:
            changes = look_at(first.seen, hints)
        else:
            changes = look_everywhere(self._container.upper, first.seen)
            add_paths(changes, first.seen, mapped)
        held.mapped = mapped
        return self._scan(staging, since, held, first.seen, staging, changes, hints.inodes, late)

    def _scan(
        self,
        sink: Sink,
        since: int,
        held: OpenFiles,
        seen: Seen | None,
        objects: Objects | None = None,
        changes: Changes | None = None,
        written: Collection[int] = (),
        late: _Late | None = None,
    ) -> UpperResult:
        if seen is not None and held.nameless and not held.nameless <= seen.inodes:
            seen = changes = None  # a file that may be written to, and nobody knows which: nothing can be relied on
        return scan_upper(
            self._container.upper,
            self._base,
            sink,
            stubs=read_stubs(self._generation),
            prefix=prefix_of(self._generation),
            ids=self._container.record.ids,
            before=seen,
            changes=changes,
            objects=objects,
            distrust=Distrust(frozenset(held.mapped), frozenset({*held.nameless, *written})),
            since=since,
            clones=late.clones if late is not None else None,
            was_read=late.go_on if late is not None else _nothing,
            leave_out=self._leave_out,
        )

    def _open_files(self) -> OpenFiles:
        if self._init is None:
            return OpenFiles()
        return open_files(self._group.processes() or processes_of(self._init))

    # -- what was seen

    @cached_property
    def seen(self) -> Seen | None:
        """What the last commit of this generation saw, if it was since the machine was booted."""
        found = load(self._path, self._base.id, boot_id().encode())
        if found is None:
            return None
        head = self._store.history.target(self._container.ref) or self._container.base
        return found if found.root == self._store.commit(head).root else None  # gc may have taken another root

    def keep(self, seen: Seen) -> None:
        """Note what a commit saw, for the next one. Its root must be in the store by now."""
        if seen.directories:
            save(self._path, seen, boot_id().encode())

    @property
    def _path(self) -> Path:
        return self._generation / SEEN
