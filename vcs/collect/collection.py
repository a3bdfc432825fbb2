"""The steps of a collection, in the order that makes it safe beside writers and readers: docs/concurrency.md.

Nobody waits for a collection but whoever moves a ref while finish() holds the lock, and that is short. Whatever step it
is killed in, nothing needed is lost, and the next collection removes what this one left.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Collection as Values
from dataclasses import dataclass
from pathlib import Path

from vcs import plain, reflogs
from vcs.cachefiles import is_abandoned, open_cache
from vcs.collect.copying import Compaction, Doomed, LayerSink, Strategy
from vcs.collect.plan import LayerUse, Plan, plan
from vcs.collect.pulls import remove_left, size_left
from vcs.errors import Conflict, Damaged, Missing, NoSpace
from vcs.existing import names_in
from vcs.gitfiles import drop_overridden, remove_stale
from vcs.layers.reader import LayerReader
from vcs.layers.writer import remove_abandoned
from vcs.leases import Leased, read_leases
from vcs.locks import flocked
from vcs.madelayers import removable
from vcs.model import DIGEST_SIZE, CommitId, LayerId, RootId
from vcs.notes import are_notes
from vcs.packing import Packing, Pruned
from vcs.reach import Reach
from vcs.store import Store, translated

TRASH = "trash-"
"""Prefix of layers that are out of use and not deleted yet."""
_TABLE_ROW = 36
_BLOCK_ROW = 16
_CACHES = ("import-", "image-", "start-", "plain-")
"""How the names of caches begin whose first line names a root."""
_NO_CACHE = frozenset({errno.ENOENT, errno.EINVAL, errno.ELOOP, errno.ENXIO})
"""What opening a cache says of what is not there or is none: a directory, a link, a socket."""
_FRAME = 80
"""Bytes that a layer's tables take for an object, for a block, and for itself. Sums have a digest besides."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it, and of how much (0: not known)."""
Roots = Callable[[], Values[RootId]]
Commits = Callable[[], Values[CommitId]]


@dataclass(slots=True)
class Collected:
    """What a collection removed, or would remove."""

    layers: int = 0
    """Files: those without anything needed, and those that were rewritten."""
    rewritten: int = 0
    """How many of these were rewritten or merged."""
    written: int = 0
    """New ones, in their place."""
    objects: int = 0
    commits: int = 0
    reflog_entries: int = 0
    operations: int = 0
    """Of the operation log."""
    freed: int = 0
    """Bytes on the disk. An estimate, if nothing was removed."""
    in_use: int = 0
    """Layers that would have gone, but that running commands count on."""
    problems: tuple[str, ...] = ()
    """What is damaged, and so was left as it is."""


def collect(
    store: Store,
    *,
    since: float,
    roots: Roots = tuple,
    commits: Commits = tuple,
    strategy: Strategy | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Remove what nothing needs.

    Needed is what these reach: all refs; reflog entries and operations not older than `since` (seconds since 1970);
    leases; and `roots()` and `commits()`, which are asked several times, at the end while no ref can move. `strategy`
    says how layers are rewritten.
    With `dry_run` no byte changes. Conflict if somebody else collects; Missing or Corrupt, with nothing removed, if
    damage hides what is needed; NoSpace, with less removed than could be, or Denied.
    """
    with translated("garbage cannot be collected"), contextlib.ExitStack() as stack:
        if not dry_run:
            stack.enter_context(_alone(store))
        collection = Collection(store, since, roots, strategy, progress, commits=commits, dry_run=dry_run)
        stack.callback(collection.close)
        return collection.forecast() if dry_run else collection.run()


@contextlib.contextmanager
def _alone(store: Store) -> Iterator[None]:
    try:
        lock = flocked(store.path / "locks" / "gc", fcntl.LOCK_EX | fcntl.LOCK_NB)
        stack = contextlib.ExitStack()
        stack.enter_context(lock)
    except BlockingIOError:
        raise Conflict("another process is collecting garbage in this store") from None
    with stack:
        yield


class Collection:
    """One collection. Its methods are its steps; tests stop between them."""

    def __init__(
        self,
        store: Store,
        since: float,
        roots: Roots = tuple,
        strategy: Strategy | None = None,
        progress: Progress | None = None,
        *,
        commits: Commits = tuple,
        dry_run: bool = False,
    ) -> None:
        self._store = store
        self._since = since
        self._roots = roots
        self._commits = commits
        self._strategy = strategy or Compaction()
        self._progress = progress or (lambda *_: None)
        self._dry_run = dry_run
        self._layers = store.path / "layers"
        self._git = store.path / "history.git"
        self._packing = Packing(self._git)
        self._known = store.index.numbers()
        """The layers that are looked at. What others add from now on is none of this collection's business."""
        self._pruned: Pruned | None = None
        self._problems: dict[str, None] = {}
        self.reach = Reach(store)
        """What is needed, as far as it is known. Only grows."""
        self.done = Collected()

    def close(self) -> None:
        """Give descriptors back, and leave no layer doomed."""
        if not self._dry_run:
            with contextlib.suppress(sqlite3.Error):  # writers do without what is doomed, and the next gc clears it
                self._store.index.doom([])
        self._packing.close()

    def run(self) -> Collected:
        """All steps."""
        self.tidy()
        self.mark()
        planned = self.plan()
        with contextlib.suppress(NoSpace):  # packing can wait, removing cannot
            self._packing.pack()
        leased = self._round(planned.dead)  # first: it makes room for what is rewritten
        for portion in planned.rounds():
            leased += self._round(portion)
        # Who held them has mostly finished by now, and whoever has begun since does not count on what is doomed.
        still = self._round(leased) if leased else []
        self.done.in_use = len(still)
        self.done.problems = tuple(self._problems)
        return self.done

    def _round(self, uses: list[LayerUse]) -> list[LayerUse]:
        """Remove these layers. Returns those that are leased, and so were left."""
        leased = self.doom(use.name for use in uses)
        self.copy([use.name for use in uses if use.name not in leased])
        removed = self.finish()
        self.done.rewritten += sum(use.name in removed and bool(use.objects) for use in uses)
        return [use for use in uses if use.name in leased]

    def tidy(self) -> None:
        """Remove what killed processes left."""
        self._store.index.doom([])
        self.done.freed += self._empty_trash() + sum(_size(path) for path in remove_abandoned(self._layers))
        self._packing.remove_remains()
        with self._store.history.locked():
            remove_stale(self._git)
            reflogs.remove_remains(self._git)

    def mark(self) -> Leased:
        """Need all that refs, reflogs, leases and readers need now. Returns the leases."""
        with self._store.history.locked():
            refs = self._packing.refs()
            young = reflogs.young_ids(self._git, self._since, refs)
            young |= self._store.operations.young_ids(self._since)
        self._need(self._packing.add(refs.values()))
        self._need(self._packing.add({*young, *self._commits()}, missing_ok=True))
        # The caches before the leases: who uses one notes its root, and then looks whether it is still there.
        if not self._dry_run:
            self.done.freed += sum(_unlink(path) for path in self._stale_caches())
            self.done.freed += remove_left(self._store.path / "caches")
        leased = read_leases(self._store.leases, remove_dead=not self._dry_run)
        self._need(self._packing.add(leased.commits, missing_ok=True))
        for root in {*leased.roots, *self._roots()}:
            if root in self._store:  # else whoever names it can have read nothing of it
                self.reach.add_root(root)
        return leased

    def plan(self) -> Plan:
        """Decide which layers to remove, of those that were there when this began."""
        return plan(self._survey(), self._strategy.everything)

    def doom(self, names: Iterable[LayerId]) -> set[LayerId]:
        """From now on no writer counts on what it finds in these layers. Returns those that some do already: these
        are not doomed."""
        self._store.index.doom(names)
        leased = self.mark().layers
        # Only these: another may have been written again meanwhile, and so is not doomed any more.
        self._store.index.spare(leased)
        return leased

    def copy(self, names: list[LayerId]) -> None:
        """Copy what is needed in the doomed layers."""
        total, gone = sum(self._store.index.layers().get(name, 0) for name in names), 0

        def progress(size: int) -> None:
            nonlocal gone
            gone += size
            self._progress("Rewriting layers", gone, total)

        wanted = {digest for digest in self._store.index.doomed_objects() if digest in self.reach}
        if not wanted:
            return
        doomed = Doomed(self._store, names, wanted, progress)
        sink = LayerSink(self._store, self._strategy)
        try:
            self._strategy.copy(doomed, sink)
            sink.finish()
        finally:
            sink.close()
            self.done.written += len(sink.layers)
            self.done.freed -= sink.added
        self._problems.update(dict.fromkeys(doomed.problems))

    def finish(self) -> set[LayerId]:
        """Remove the doomed layers, and with them what is not needed in the history. Returns which went."""
        self.mark()  # so that little is new when the lock is held
        with self._store.history.locked():
            self.mark()
            self._prune_history()
            # What is needed and could not be copied keeps its layer: damage, or what came to be needed just now.
            try:
                names, objects = self._store.index.remove_doomed(self._to_trash, self.reach.__contains__)
            except (sqlite3.Error, OSError):  # the disk is full, or fails: the index lists them still
                self._from_trash()
                raise
            if not self._store.index.is_current():
                self._from_trash()  # who has opened another index knows of no doom
                raise Conflict("the index was made anew while garbage was collected; no layer was removed")
        self.done.objects += objects
        self.done.layers += len(names)
        self.done.freed += self._empty_trash()
        return set(names)

    def forecast(self) -> Collected:
        """What run() would remove. Nothing is changed."""
        leased = self.mark()
        planned = self.plan()
        going = [use for use in (*planned.dead, *planned.rewritten) if use.name not in leased.layers]
        pruned = self._packing.garbage()
        return Collected(
            layers=len(going),
            rewritten=sum(bool(use.objects) for use in going),
            objects=sum(use.garbage for use in going),
            commits=pruned.commits,
            reflog_entries=reflogs.count_old(self._git, self._since, self._packing.refs()),
            operations=sum(one.time < self._since for one in self._store.operations.read()),
            freed=sum(use.waste for use in going)
            + pruned.bytes
            + sum(map(_size, self._stale_caches()))
            + size_left(self._store.path / "caches"),
            in_use=len(planned.dead) + len(planned.rewritten) - len(going),
            problems=tuple(self._problems),
        )

    # -- details

    def _need(self, commits: list[CommitId]) -> None:
        for done, commit in enumerate(commits):
            self._progress("Marking commits", done, len(commits))
            try:
                self.reach.add_root(self._store.commit(commit).root)
            except Missing:
                if not are_notes(self._store.history.raw, commit):
                    raise

    def _stale_caches(self) -> Iterator[Path]:
        """The caches of imports and of images' layers, start profiles, plain copies and layers that were made, of what
        may go (their first line names it), and what killed writers left of some."""
        caches = self._store.path / "caches"
        yield from removable(caches, self.reach)
        for path in (caches / name for name in names_in(caches) if name.startswith(_CACHES)):
            if is_abandoned(path) if path.suffix else self._is_stale(path):
                yield path
                copied = plain.copied_digest(path)
                if copied is not None and not plain.bytes_path(caches, copied).is_dir():
                    yield plain.bytes_path(caches, copied)
        yield from plain.left_bytes(caches)

    def _is_stale(self, cache: Path) -> bool:
        """Also if it cannot be read: who can would rely on the root, which may go."""
        try:
            with open(open_cache(cache), "rb") as file:
                return bytes.fromhex(file.readline(80).decode("ascii")) not in self.reach
        except ValueError:
            return True
        except OSError as error:
            return error.errno not in _NO_CACHE

    def _survey(self) -> list[LayerUse]:
        live: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        objects: defaultdict[int, int] = defaultdict(int)
        garbage: defaultdict[int, int] = defaultdict(int)
        for digest, layer, block, length in self._store.index.rows():
            if digest in self.reach:
                live[layer][block] += length
                objects[layer] += 1
            else:
                garbage[layer] += 1
        uses = []
        for number, name in self._known.items():
            try:
                reader = LayerReader(self._store.layer_path(name))
            except (Damaged, OSError) as error:
                # A forecast holds no lock, so another collection may have removed the layer.
                if not self._dry_run or name in self._store.index.layers():
                    self._problems[f"layer {name.hex()} cannot be read: {error}"] = None
                continue
            used = _used(reader, live[number], objects[number])
            uses.append(LayerUse(name, reader.size, objects[number], used, garbage[number]))
            reader.close()
        return uses

    def _prune_history(self) -> None:
        """Once is enough. Before the layers: a commit that is there has its root."""
        if self._pruned is None:
            self.done.reflog_entries = reflogs.expire(self._git, self._since, self._packing.refs())
            with contextlib.suppress(OSError):  # on a full disk they can wait
                self.done.operations = self._store.operations.expire(self._since)
            drop_overridden(self._git)
            self._store.history.note_pruning()
            self._pruned = self._packing.prune()
            self.done.commits = self._pruned.commits
            self.done.freed += self._pruned.bytes

    def _to_trash(self, names: list[LayerId]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._store.layer_path(name).rename(self._layers / f"{TRASH}{name.hex()}")

    def _from_trash(self) -> None:
        for name in names_in(self._layers):
            if name.startswith(TRASH):
                with contextlib.suppress(OSError):  # opening the index makes it agree with what is there
                    layer = LayerId(bytes.fromhex(name.removeprefix(TRASH)))
                    (self._layers / name).rename(self._store.layer_path(layer))

    def _empty_trash(self) -> int:
        return sum(_unlink(path) for path in self._layers.glob(f"{TRASH}*"))


def _used(reader: LayerReader, live: dict[int, int], objects: int) -> int:
    """What of a layer's size the objects in use account for."""
    if not objects:
        return 0
    blocks = reader.blocks
    share = sum(blocks.room(number) * length // blocks.lengths[number] for number, length in live.items())
    tables = _TABLE_ROW * objects + _BLOCK_ROW * len(live) + _FRAME + (DIGEST_SIZE if blocks.sum_bytes else 0)
    return min(reader.size, share + tables)


def _size(path: Path) -> int:
    """The bytes on the disk that go with a file: none if it has another name."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        return status.st_blocks * 512 if status.st_nlink == 1 else 0
    return 0


def _unlink(path: Path) -> int:
    """Delete a file; returns the bytes on the disk that it had."""
    size = _size(path)
    path.unlink(missing_ok=True)
    return size
