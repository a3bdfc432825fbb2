"""Where each object lies: digest -> layer, block, offset, length. SQLite in WAL mode.

Derived data: every row comes from a layer's footer. Each opening compares the layers it knows with the files that are
there, so a lost, old or deleted index costs time and nothing else; therefore its transactions are not synced to the
disk (synchronous=NORMAL), and a commit waits for one fsync less. Only dooms are. The file is
vcs.indexfile's affair.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Any

from vcs import indexfile
from vcs.errors import Corrupt, Damaged, TreeringError
from vcs.indexerrors import told_by_sqlite
from vcs.indexfile import transaction
from vcs.layers.format import SUFFIX, Place
from vcs.layers.reader import LayerReader
from vcs.model import LayerId
from vcs.warming import warm_open_file

_INSERT_LAYER = (
    "INSERT INTO layers (name, size) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET doomed = 0, size = excluded.size"
)
_INSERT = (
    "INSERT INTO objects VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE"
    " SET layer = excluded.layer, block = excluded.block, start = excluded.start, length = excluded.length"
    " WHERE (SELECT doomed FROM layers WHERE id = objects.layer)"
)
_DOOMED = "SELECT id FROM layers WHERE doomed"
_DOOMED_OBJECTS = f"SELECT {{}} FROM objects WHERE layer IN ({_DOOMED})"
_WARMED_MOST = 16 << 20
"""Bytes of an index that is worth reading whole: 200,000 objects."""


@dataclass(frozen=True, slots=True)
class Location:
    """An object's place in the store. `layer` is the index's number for a layer: see Index.layer_name."""

    layer: int
    block: int
    start: int
    length: int


_NEAR = 32
"""Layers to either side of one whose names are asked for with its own."""


class Index:
    """The index of one store's layers. Any number of processes may have it open."""

    def __init__(self, path: Path, layers: Path) -> None:
        self._path = path
        self._layers = layers
        self._names: dict[int, LayerId] = {}
        self._unwritten: dict[bytes, Location] = {}
        self._db, self.is_copy = indexfile.connect(path)
        """`is_copy`: whether it cannot be written, and what is read is a copy."""
        try:
            self._begin()
        except BaseException:
            self._db.close()
            raise

    def _begin(self) -> None:
        if not self._is_refreshed():
            self._db.close()
            self._db, self.is_copy = indexfile.connect(self._path)
            if not self._is_refreshed():
                self._remake()
        self._inode = 0 if self.is_copy else self._path.stat().st_ino

    def _is_refreshed(self) -> bool:
        """Agrees with the layer files, unless it is damaged, or could not be read just then: SQLite does not tell."""
        try:
            self.refresh()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            return False
        return True

    def close(self) -> None:
        """Close the database; the last one to close folds the write-ahead log into it."""
        if not self.is_copy:
            # Another process writes, the disk is full, or there is too little memory.
            with contextlib.suppress(sqlite3.Error, MemoryError):
                indexfile.seal(self._db, self._path)
        self._db.close()

    def find(self, digest: bytes) -> Location | None:
        """Where an object lies, None if no layer that is indexed has it."""
        row = self._one("SELECT layer, block, start, length FROM objects WHERE digest = ?", digest)
        return Location(*row) if row else self._unwritten.get(digest)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._unwritten or self._one("SELECT 1 FROM objects WHERE digest = ?", digest) is not None

    def warm(self) -> None:
        """Have the kernel read the index from end to end, unless it is large. Digests lie in it in no order: page by
        page, a cold start waits for the disk some hundred times."""
        warm_open_file(self._path, _WARMED_MOST)

    def is_empty(self) -> bool:
        return self._db.execute("SELECT 1 FROM layers LIMIT 1").fetchone() is None

    def layer_name(self, number: int) -> LayerId:
        """The layer that a Location means. FileNotFoundError if gc has removed it since."""
        if number not in self._names:
            # Its neighbours too: a history is mostly read from layer to layer.
            near = number - _NEAR, number + _NEAR
            for found, name in self._rows("SELECT id, name FROM layers WHERE id BETWEEN ? AND ?", *near):
                self._names[found] = LayerId(name)
            if number not in self._names:
                raise FileNotFoundError(errno.ENOENT, "a layer that was removed just now")
        return self._names[number]

    def is_doomed(self, number: int) -> bool:
        """Whether gc is about to remove a layer, or has: what is in it must not be relied on."""
        row = self._one("SELECT doomed FROM layers WHERE id = ?", number)
        return bool(row[0]) if row else number >= 0

    def doom(self, names: Iterable[LayerId]) -> None:
        """Make exactly these layers doomed. What is in them can be read, but counts as missing for who writes, and is
        found in another layer as soon as one has it.

        Durable, since files go next: a layer that is listed, not doomed and not there is damage.
        """
        names = list(names)
        with transaction(self._db, durable=bool(names)):
            self._db.execute("UPDATE layers SET doomed = 0 WHERE doomed")
            self._db.executemany("UPDATE layers SET doomed = 1 WHERE name = ?", ((name,) for name in names))

    def spare(self, names: Iterable[LayerId]) -> None:
        """Make these layers not doomed, and leave the others as they are: a writer may have revived one meanwhile."""
        with transaction(self._db):
            self._db.executemany("UPDATE layers SET doomed = 0 WHERE name = ?", ((name,) for name in names))

    def doomed_objects(self) -> Iterator[bytes]:
        """The digest of every object that is found in a doomed layer."""
        for (digest,) in self._db.execute(_DOOMED_OBJECTS.format("digest")):
            yield digest

    def remove_doomed(
        self, dispose: Callable[[list[LayerId]], None], is_needed: Callable[[bytes], bool] | None = None
    ) -> tuple[list[LayerId], int]:
        """Forget the doomed layers; returns them, and how many objects went with them. `dispose` takes their files
        away while nobody else can change the index.

        A layer in which an object is found that `is_needed` is spared instead.
        """
        with transaction(self._db):
            if is_needed is not None:
                rows = self._db.execute(_DOOMED_OBJECTS.format("digest, layer"))
                spared = {layer for digest, layer in rows if is_needed(digest)}
                self._db.executemany("UPDATE layers SET doomed = 0 WHERE id = ?", ((layer,) for layer in spared))
            names = [LayerId(name) for (name,) in self._db.execute("SELECT name FROM layers WHERE doomed")]
            objects = 0
            if names:
                objects = self._db.execute(f"DELETE FROM objects WHERE layer IN ({_DOOMED})").rowcount
                self._db.execute("DELETE FROM layers WHERE doomed")
                dispose(names)  # last, so that a full disk is noticed before
        return names, objects

    def rows(self) -> Iterator[tuple[bytes, int, int, int]]:
        """Every indexed object, sorted: digest, layer (the index's number), block, length."""
        yield from self._db.execute("SELECT digest, layer, block, length FROM objects ORDER BY digest")

    def numbers(self) -> dict[int, LayerId]:
        """The index's number of every layer, in the order in which they came."""
        return {number: LayerId(name) for number, name in self._db.execute("SELECT id, name FROM layers ORDER BY id")}

    def is_current(self) -> bool:
        """Whether this is still the index that others open: not if it was deleted or made anew meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            return self._path.stat().st_ino == self._inode
        return False

    def layers(self) -> dict[LayerId, int]:
        """Every indexed layer and its size in bytes."""
        return {LayerId(name): size for name, size in self._db.execute("SELECT name, size FROM layers ORDER BY id")}

    def objects(self) -> Iterator[bytes]:
        """The digest of every indexed object."""
        for (digest,) in self._db.execute("SELECT digest FROM objects"):
            yield digest

    def lengths(self) -> Iterator[tuple[bytes, int]]:
        """Every object that can be found and its length in bytes, sorted by digest."""
        rows = self._db.execute("SELECT digest, length FROM objects ORDER BY digest")
        return merge(rows, sorted((digest, place.length) for digest, place in self._unwritten.items()))

    def objects_of(self, name: LayerId) -> Iterator[tuple[bytes, Location]]:
        """The objects that are listed in one layer, sorted by place. Reads the whole index."""
        rows = self._db.execute(
            "SELECT digest, layer, block, start, length FROM objects"
            " WHERE layer = (SELECT id FROM layers WHERE name = ?) ORDER BY block, start",
            (name,),
        )
        for digest, *place in rows:
            yield digest, Location(*place)

    def add(self, name: LayerId, size: int, places: Iterable[Place], publish: Callable[[], None] | None = None) -> None:
        """Index a layer, again if it is indexed already; an object that is in another layer stays there.

        `publish` gives the file its name. Nobody removes a layer meanwhile: gc may just be about to, if this one has
        the same bytes as one that is doomed.
        """
        with transaction(self._db):
            if publish is not None:
                publish()
            self._add(name, size, places)

    def refresh(self) -> bool:
        """Make the index agree with the layer files: True if it had to be changed."""
        present = self._present()
        if present == set(self.layers()):
            return False
        try:
            with transaction(self._db):
                present, known = self._present(), set(self.layers())  # now that gc is not between file and row
                for name in known - present:
                    self._remove(name)
                # An object is listed once; what a removed layer had may be in one that stays.
                for name in sorted(present if known - present else present - known):
                    self._add_file(name)
        except sqlite3.OperationalError:
            # On a full disk what is there can still be read.
            held = {name for number, name in self._names.items() if number < 0}
            for name in sorted(present - set(self.layers()) - held):
                self._remember(name)
        return True

    def rebuild(self) -> None:
        """Make the index anew from the layers' footers. Other processes that have it open may go on.

        What it says of a layer whose footer cannot be read stays: nothing else knows where that layer's objects are.
        """
        try:
            is_sound = self._db.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",)
        except sqlite3.DatabaseError:
            is_sound = False
        if is_sound:
            with transaction(self._db):
                self._refill()
        else:
            self._remake()

    def _refill(self) -> None:
        present, readable = self._present(), set()
        for name in present:
            with contextlib.suppress(OSError, TreeringError):
                LayerReader(self._layers / (name.hex() + SUFFIX)).close()
                readable.add(name)
        for name, number in self._db.execute("SELECT name, id FROM layers").fetchall():
            if name in readable or name not in present:
                self._db.execute("DELETE FROM objects WHERE layer = ?", (number,))
            if name not in present:
                self._db.execute("DELETE FROM layers WHERE id = ?", (number,))
        self._db.execute("DELETE FROM objects WHERE layer NOT IN (SELECT id FROM layers)")
        kept = self._db.execute("SELECT * FROM objects").fetchall()
        self._db.execute("DELETE FROM objects")
        for name in sorted(readable):
            self._add_file(name)
        self._db.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?, ?)", kept)
        numbers = [row[0] for row in self._db.execute("SELECT seq FROM sqlite_sequence UNION SELECT id FROM layers")]
        self._db.execute("DELETE FROM sqlite_sequence")
        highest = max((number for number in numbers if isinstance(number, int)), default=0)
        self._db.execute("INSERT INTO sqlite_sequence VALUES ('layers', ?)", (highest,))

    def _remake(self) -> None:
        """A new file. Processes that have the old one open keep it, which is deleted, until they end."""
        self._db.close()
        if self.is_copy:
            self._db = indexfile.make_copy()
        else:
            self._db = indexfile.make_anew(self._path)
            self._inode = self._path.stat().st_ino
        self._names.clear()
        self.refresh()

    def _one(self, query: str, value: bytes | int) -> tuple[Any, ...] | None:
        """The first row."""
        rows = self._rows(query, value)
        return rows[0] if rows else None

    def _rows(self, query: str, *values: bytes | int) -> list[tuple[Any, ...]]:
        """Corrupt if the database is damaged, StoreError if it cannot be read just then; that costs nothing here, where
        thousands a second are asked."""
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise told_by_sqlite("the index cannot be read", error) from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"the index is damaged: {error}", index=str(self._path)) from error

    def _present(self) -> set[LayerId]:
        names = (entry.name for entry in os.scandir(self._layers) if entry.name.endswith(SUFFIX))
        return {LayerId(bytes.fromhex(name[: -len(SUFFIX)])) for name in names}

    def _add_file(self, name: LayerId) -> None:
        try:
            reader = LayerReader(self._layers / (name.hex() + SUFFIX))
        except (FileNotFoundError, Damaged):
            return  # a damaged layer must not keep the others from being read; fsck tells of it
        try:
            self._add(name, reader.size, reader.footer().places())
        finally:
            reader.close()

    def _add(self, name: LayerId, size: int, places: Iterable[Place]) -> None:
        self._db.execute(_INSERT_LAYER, (name, size))
        number = self._number(name)
        rows = sorted((place.digest, number, place.block, place.offset, place.length) for place in places)
        self._db.executemany(_INSERT, rows)

    def _remember(self, name: LayerId) -> None:
        """Hold a layer's places in memory, under a number that the database does not use."""
        number = -1 - len(self._names)
        self._names[number] = name
        reader = LayerReader(self._layers / (name.hex() + SUFFIX))
        try:
            for place in reader.footer().places():
                self._unwritten[place.digest] = Location(number, place.block, place.offset, place.length)
        finally:
            reader.close()

    def _remove(self, name: LayerId) -> None:
        number = self._number(name)
        self._db.execute("DELETE FROM objects WHERE layer = ?", (number,))
        self._db.execute("DELETE FROM layers WHERE id = ?", (number,))
        self._names.pop(number, None)

    def _number(self, name: LayerId) -> int:
        """The number of a layer that is listed."""
        row = self._db.execute("SELECT id FROM layers WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError("the list of layers and its own index differ")
        return int(row[0])
