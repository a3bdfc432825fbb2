"""gc of a store of a thousand commits, half of which nothing needs any more, while another process imports."""

from __future__ import annotations

import random
import threading
from pathlib import Path

from msgspec.structs import replace

from benchmarks.measure import FailedError, Run, size_of
from benchmarks.peers.treering import treering
from benchmarks.report import Section
from benchmarks.sections.container import author
from benchmarks.setting import SMALL, Setting
from vcs.blobs import put_data
from vcs.history import BRANCHES
from vcs.importer import import_directory
from vcs.model import CommitId, Entry, RootId, Tree
from vcs.store import Store
from vcs.trees import Sink, write_root, write_tree

_COMMITS = 1_000
_FILES = 3
_FILE_BYTES = 30_000
_SECONDS_LIMIT = 60
_LEFT_LIMIT = 0.1


def collection(setting: Setting) -> list[Section]:
    """One table. Each layer holds a commit that stays and one that goes, so none can simply be removed."""
    section = Section("gc of a thousand commits", "what")
    pairs = (_COMMITS // 50 if setting.quick else _COMMITS) // 2
    place = setting.place("collection")
    garbage = _fill(place, setting.corpus(SMALL), pairs)
    before = size_of(place / "layers").apparent
    with _Imports(place, setting.place("collection-source")) as beside:
        done = treering(place, "gc", "--expire", "now")
    freed = before + beside.added - size_of(place / "layers").apparent
    check = treering(place, "fsck")
    section.note(
        f"{2 * pairs:,} commits, one in two on a branch that was deleted; each has {_FILES * _FILE_BYTES:,} bytes that "
        f"no other has. {beside.made} imports were made meanwhile, and are whole (fsck, {check.seconds:.1f} s)."
    )
    section.put("time", "", done.seconds, "s")
    section.put("CPU", "", done.cpu_seconds, "s")
    section.put("memory", "", done.peak_bytes, "MB")
    section.put("unreachable", "", garbage, "B")
    section.put("freed", "", freed, "B")
    section.claim("5", f"gc of {2 * pairs:,} commits with imports beside it", done.seconds, _SECONDS_LIMIT, "s")
    section.claim("5", "unreachable bytes left", (garbage - freed) / garbage, _LEFT_LIMIT)
    return [section]


def _fill(place: Path, source: Path, pairs: int) -> int:
    """Make the store; returns the bytes that nothing needs."""
    chance = random.Random(5)
    garbage = 0
    with Store.create(place) as store:
        with store.batch() as batch:
            base = import_directory(batch, source).root
        snapshot = store.snapshot(base)
        top = snapshot.root
        entries = list(snapshot.directory(top))
        tips: dict[str, tuple[CommitId, ...]] = {"main": (), "gone": ()}
        for number in range(pairs):
            with store.batch() as batch:
                roots = {branch: _root(batch, top, entries, _files(batch, chance, number)) for branch in tips}
            for branch, root in roots.items():
                tip = store.add_commit(root, {"config": {}}, f"{branch} {number}\n", author(), tips[branch])
                previous = tips[branch][0] if tips[branch] else None
                store.history.move(BRANCHES + branch, tip, previous, "commit", author())
                tips[branch] = (tip,)
            garbage += _FILES * _FILE_BYTES
        store.history.delete(BRANCHES + "gone")
    return garbage


def _files(sink: Sink, chance: random.Random, number: int) -> list[Entry]:
    """Files that no compressor makes smaller."""
    contents = [put_data(sink, chance.randbytes(_FILE_BYTES)) for _ in range(_FILES)]
    return [
        Entry(b"file%d" % n, 0o100644, 0, 0, number * 10**9, content, (), None) for n, content in enumerate(contents)
    ]


def _root(sink: Sink, top: Entry, entries: list[Entry], files: list[Entry]) -> RootId:
    new = Entry(b"~new", 0o040755, 0, 0, 0, write_tree(sink, files), (), None)
    tree: Tree = write_tree(sink, sorted([*entries, new], key=lambda entry: entry.name))
    return write_root(sink, replace(top, content=tree))


class _Imports:
    """A second process that imports, again and again, something new each time."""

    def __init__(self, place: Path, source: Path) -> None:
        self._place = place
        self._source = source
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._failed: FailedError | None = None
        self.made = 0

    def __enter__(self) -> _Imports:
        self._source.mkdir()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed:
            raise self._failed

    @property
    def added(self) -> int:
        """Bytes that the imports brought in: their files do not compress."""
        return self.made * _FILE_BYTES

    def _work(self) -> None:
        chance = random.Random(6)
        while not self._stop.is_set():
            (self._source / f"beside{self.made}").write_bytes(chance.randbytes(_FILE_BYTES))
            try:
                self._import()
            except FailedError as error:
                self._failed = error
                return
            self.made += 1

    def _import(self) -> Run:
        return treering(self._place, "import", self._source, "--branch", "beside", "-m", f"import {self.made}")
