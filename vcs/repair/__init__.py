"""Restoring what is damaged or missing from wherever it still is.

    salvage     what can still be read of a damaged layer     references   what an object refers to
    sources     other stores, directories, archives           history      git's objects, refs and settings
    packs       git's packs                                   packedrefs   packed-refs
    writing     one of git's objects
    keeping     what is damaged of git's, kept                bisections   verdicts that are lost

What was found is in a new layer, durably, before a damaged one is put aside; and that is kept, as layers/damaged-*.
Nothing is restored that does not have its digest, so it cannot matter where it came from.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from vcs.check import Progress, Report, check, examine
from vcs.durable import replace_file, sync_directory
from vcs.encoding import digest as digest_of
from vcs.errors import Conflict, Damaged, NotFound, TreeringError, UnknownFormat
from vcs.layers.format import KIND_CHUNKS, SUFFIX
from vcs.layers.reader import LayerReader
from vcs.locks import flocked
from vcs.model import LayerId
from vcs.plain import bytes_path, copied_digest, sums_path
from vcs.plainwriter import mend
from vcs.repair.bisections import mend_bisection
from vcs.repair.history import HistoryRepair, mend_operations
from vcs.repair.salvage import salvage
from vcs.repair.sources import Source, StoreSource, open_source
from vcs.scratch import Scratch
from vcs.store import FORMAT_LINE, Store, translated
from vcs.trees import Sink

ASIDE = "damaged-"
"""Prefix of layers that are out of use because something in them was damaged."""


@dataclass(slots=True)
class Repaired:
    """What a repair did, or could do."""

    report: Report
    """What is wrong after it."""
    objects: int = 0
    """Objects that were restored: those that were damaged or missing."""
    aside: list[str] = field(default_factory=list)
    """Layers that are out of use: the names of their files."""
    done: list[str] = field(default_factory=list)
    """What else was put right."""


def repair(
    path: Path, sources: Sequence[Path] = (), *, dry_run: bool = False, progress: Progress | None = None
) -> Repaired:
    """Restore what is damaged in the store at `path`, which must not be open in this process.

    What is lost is looked for in the store itself, then in each of `sources`: other stores, directories, archives. With
    `dry_run` nothing is written, and `report` is what is wrong now. Conflict if garbage is being collected; errors of a
    source as they are, with what was restored until then.
    """
    repaired = Repaired(examine(path, progress))
    if not repaired.report.problems:
        return repaired
    found = [open_source(source) for source in sources]
    with translated("the store cannot be repaired"), _alone(path):
        if dry_run:
            repaired.objects = _Objects(path, found, repaired).forecast()
            return repaired
        if (path / "format").read_bytes() != FORMAT_LINE:
            replace_file(path / "format", FORMAT_LINE)
            repaired.done.append("the format file is as it was")
        for cache in repaired.report.caches:
            if copied_digest(cache) is None:
                _delete(cache)
                repaired.done.append(f"caches/{cache.name} was deleted: the next import or start makes it anew")
        _repair_history(path, found, repaired)
        _Objects(path, found, repaired).run()
        repaired.done += [_mend_copy(path, digest) for digest in map(copied_digest, repaired.report.caches) if digest]
    repaired.report = examine(path, progress)
    return repaired


def _delete(cache: Path) -> None:
    """What is under a cache's name, whatever it is."""
    if cache.is_dir() and not cache.is_symlink():
        shutil.rmtree(cache)
    else:
        cache.unlink(missing_ok=True)


def _mend_copy(path: Path, digest: bytes) -> str:
    """Mend a plain copy, which containers may be reading, or delete it. What was done."""
    with contextlib.suppress(TreeringError, OSError), Store.open(path) as store:
        if mend(store, store.caches, digest):
            return f"the plain copy {digest.hex()} is the file again"
    for part in (sums_path(path / "caches", digest), bytes_path(path / "caches", digest)):
        _delete(part)
    return f"the plain copy {digest.hex()} was deleted: it is made anew when it is wanted"


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No garbage is collected meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(flocked(path / "locks" / "gc", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            raise Conflict("another process is collecting garbage in this store, or repairs it") from None
        yield


def _repair_history(path: Path, sources: Sequence[Source], repaired: Repaired) -> None:
    """First what keeps git from reading at all, then its objects, then what names them."""
    kinds = {problem.kind for problem in repaired.report.problems}
    if "operation" in kinds:
        repaired.done += mend_operations(path)
    if kinds & {"history", "ref"}:
        history = HistoryRepair(path, [source for source in sources if isinstance(source, StoreSource)])
        _mend(history, path)
        repaired.done += history.done
    if "bisect" in kinds:
        with contextlib.suppress(Damaged, UnknownFormat):  # the check that follows tells of it
            repaired.done += mend_bisection(path)


def _mend(history: HistoryRepair, path: Path) -> None:
    history.settings()
    history.packs()
    with contextlib.suppress(Damaged, NotFound):  # a pack that is still damaged keeps all of it from being read
        while history.objects((report := _quick(path)).git_lost | report.unknown):
            pass  # what a commit that was restored needs is known only now
        history.refs(report.refs)
        while history.objects((report := _quick(path)).git_lost | report.unknown):
            pass
        if not report.git_lost and not report.refs:  # else an id that is not there may be a commit that is lost
            history.reflogs()


def _quick(path: Path, damaged: dict[bytes, str] | None = None) -> Report:
    """A store opened anew, since one that was open before may remember what was damaged."""
    with Store.open(path) as store:
        return check(store, read_data=False, damaged=damaged or {})


class _Objects:
    """The repair of objects and layers."""

    def __init__(self, path: Path, sources: Sequence[Source], repaired: Repaired) -> None:
        self._path = path
        self._sources = sources
        self._repaired = repaired
        self._layers = sorted(repaired.report.layers)
        self._unreadable: dict[bytes, str] = {}
        """What the index lists in damaged layers and cannot be had from them, and in which."""

    def run(self) -> None:
        """Write what can be had into new layers, and put the damaged ones aside that are not needed any more."""
        with Store.open(self._path) as store, store.writing():
            store.index.doom(self._layers)  # what is in them counts as missing for who writes
            try:
                with store.batch() as batch:
                    self._salvage(store, batch)
                    self._search_layers(store, batch)
                self._is_back(batch.layer)
                while lost := _quick(self._path, self._unreadable).lost:
                    with store.batch() as batch:
                        found = self._search_sources(store, lost, batch)
                    self._is_back(batch.layer)
                    if not found:
                        break
                self._retire(store, bool(lost))
            finally:
                store.index.doom([])

    def _is_back(self, written: LayerId | None) -> None:
        """With all of its objects in their order, a layer is the one that it was, and has taken its place."""
        self._layers = [name for name in self._layers if name != written]

    def forecast(self) -> int:
        """How many objects could be restored, of those that are known to be lost."""
        with Store.open(self._path) as store:
            sink = Scratch(store)
            self._salvage(store, sink)
            self._search_layers(store, sink)
            salvaged = self._repaired.report.lost.keys() - self._unreadable.keys()
            lost = {digest: kind for digest, kind in self._repaired.report.lost.items() if digest not in salvaged}
            lost.update({d: k for d, k in self._repaired.report.lost.items() if d not in store})
            return len(salvaged & set(store.index.objects())) + len(self._search_sources(store, lost, sink))

    def _salvage(self, store: Store, sink: Sink) -> None:
        for name in self._layers:
            rows = list(store.index.objects_of(name))
            left = {digest for digest, _ in rows}
            for kind, digest, data in salvage(store.layer_path(name), rows):
                _put(sink, kind, data)
                left.discard(digest)
            self._unreadable.update(
                {digest: f"object {digest.hex()} in layer {name.hex()} is damaged" for digest in left}
            )

    def _search_layers(self, store: Store, sink: Sink) -> None:
        """What is damaged in one layer may be whole in another."""
        for name in store.index.layers().keys() - set(self._layers) if self._unreadable else ():
            with closing(LayerReader(store.layer_path(name))) as reader:
                for place in reader.footer().places():
                    if place.digest in self._unreadable:
                        data = reader.block(place.block)[place.offset : place.offset + place.length]
                        self._found(sink, reader.blocks[place.block].kind, data)

    def _search_sources(self, store: Store, lost: dict[bytes, int], sink: Sink) -> set[bytes]:
        found: set[bytes] = set()
        for source in self._sources:
            wanted = {digest: kind for digest, kind in lost.items() if digest not in found}
            if wanted:
                found |= source.find(wanted, lambda name: name in store and name not in self._unreadable, sink)
        for digest in found:
            self._unreadable.pop(digest, None)
        self._repaired.objects += len(found)
        return found

    def _found(self, sink: Sink, kind: int, data: bytes) -> None:
        if self._unreadable.pop(digest_of(data), None) is not None:
            _put(sink, kind, data)
            self._repaired.objects += 1

    def _retire(self, store: Store, is_lost: bool) -> None:
        """Put layers aside. One of which something could not be read stays while anything is lost."""
        kept = {
            name for name in self._layers if is_lost and any(name.hex() in why for why in self._unreadable.values())
        }
        gone = [name for name in self._layers if name not in kept]
        store.index.doom(gone)
        store.index.remove_doomed(self._put_aside)
        self._put_aside([name for name in gone if store.layer_path(name).exists()])  # those that were never indexed
        sync_directory(self._path / "layers")

    def _put_aside(self, names: list[LayerId]) -> None:
        for name in names:
            file = self._path / "layers" / (name.hex() + SUFFIX)
            with contextlib.suppress(FileNotFoundError):
                file.rename(file.with_name(f"{ASIDE}{name.hex()}"))
                self._repaired.aside.append(f"{ASIDE}{name.hex()}")


def _put(sink: Sink, kind: int, data: bytes) -> None:
    if kind == KIND_CHUNKS:
        sink.put_chunk(data)
    else:
        sink.put_tree(data)
