"""The index against the layers' footers, row by row, as it is on the disk.

To be run before the store is opened, since opening mends what it notices. The index is derived: nothing is lost with
it. Layers that it does not know yet are no problem (a power cut may take its last transaction, and opening adds them);
what it says and no layer does is one.

Bytes of the file that SQLite does not use are covered by the seal, where there is one: vcs.seal.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from vcs.check.layers import layer_files
from vcs.check.report import Problem
from vcs.errors import TreeringError
from vcs.indexcopy import can_be_written, empty, image_of, load
from vcs.indexfile import TABLES, VERSION, lenient_text
from vcs.layers.format import SUFFIX
from vcs.layers.reader import LayerReader
from vcs.model import LayerId
from vcs.seal import seal_of
from vcs.shortage import raise_shortage

_MAGIC = b"SQLite format 3\0"
_AT_ONCE = 250_000
"""Objects that are compared in one pass over the footers, by ranges of their digests: about 50 MB."""

_Place: TypeAlias = tuple[int, int, int, int]
"""The index's number of a layer, block, start, length."""


def check_index(path: Path, layers: Path, *, is_open: bool = False, missing: set[bytes] | None = None) -> list[Problem]:
    """What is wrong with the index at `path` of the layers in a directory. An index that is not there is not wrong.

    `missing` takes the digests of objects that layers have and the index has not, which then are no problem yet: if two
    writers have brought the same object, gc forgets it with the one layer when nothing needs it, and the other layer
    keeps it.

    `is_open`: this process has it open, so that the file must not be read but through SQLite (closing a file gives up
    the process's locks on it: fcntl(2)).
    """
    if not path.exists() or not path.stat().st_size:
        return []
    messages = [] if is_open else list(_header_faults(path))
    unread: dict[Path, OSError] = {}
    try:
        with closing(_opened(path)) as db:
            db.text_factory = lenient_text
            if int(db.execute("PRAGMA user_version").fetchone()[0]) == VERSION or messages:
                db.execute("BEGIN")  # everything below is as it was at one moment
                messages += _faults(db, layers, missing, unread)
                db.execute("COMMIT")
                messages += _gone(db, layers)
            # else it was made by another version of the program, and opening makes it anew
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter, for a message that quotes what it found
        if getattr(error, "sqlite_errorname", "").startswith("SQLITE_CANTOPEN"):
            raise  # it says nothing of what is in the file
        messages.append(f"it cannot be read: {error}")
    return [index_problem(message) for message in messages] + [_not_compared(*each) for each in unread.items()]


def _opened(path: Path) -> sqlite3.Connection:
    """The database, to be read. Where nothing can be written, perhaps in memory (vcs.indexcopy), and without what is
    only in its log: nobody uses that there."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("PRAGMA user_version").fetchall()
    except sqlite3.OperationalError:
        if can_be_written(path):
            raise
        db.close()
        db = empty()
        log = path.with_name(f"{path.name}-wal")
        if not log.exists() or not log.stat().st_size:
            load(db, path.read_bytes())
    return db


def index_problem(message: str) -> Problem:
    """A problem of an index, in whole words."""
    return Problem("index", f"the index (derived, so nothing is lost) is damaged: {message}")


def _not_compared(layer: Path, error: OSError) -> Problem:
    """That rows of the index may be wrong, and nobody knows."""
    name = layer.name.removesuffix(SUFFIX)
    return Problem("layer", f"the index was not compared with layer {name}: {error.strerror}", layer=name)


def _header_faults(path: Path) -> Iterator[str]:
    """The first bytes of the file (https://www.sqlite.org/fileformat.html, 1.3): all that have one right value."""
    with path.open("rb") as file:
        header = file.read(100)
    fixed = {0: _MAGIC, 18: b"\2\2\0\x40\x20\x20", 44: _u32(4), 52: _u32(0) + _u32(1), 64: bytes(4), 72: bytes(20)}
    if any(header[at : at + len(value)] != value for at, value in fixed.items()):
        yield "its header is not one that SQLite writes"
    if header[24:28] != header[92:96] or not 3_000_000 <= int.from_bytes(header[96:100], "big") < 4_000_000:
        yield "the counters in its header do not agree"


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _faults(
    db: sqlite3.Connection, layers: Path, missing: set[bytes] | None, unread: dict[Path, OSError]
) -> Iterator[str]:
    schema = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL")}
    if not schema >= set(TABLES):
        yield "its tables are not those of an index"
        return
    for (line,) in db.execute("PRAGMA integrity_check(3)"):
        if line != "ok":
            yield line
    (seal,) = db.execute("PRAGMA application_id").fetchone()
    if seal and seal != seal_of(image_of(db)):
        yield "a byte of it is not as it was written"
    yield from _other_faults(db)
    known = {LayerId(name): (number, size) for number, name, size in db.execute("SELECT id, name, size FROM layers")}
    present = dict(layer_files(layers))
    for name in known.keys() & present.keys():
        if known[name][1] != present[name]:
            yield f"it has another size for layer {name.hex()}"
    paths = {number: layers / (name.hex() + SUFFIX) for name, (number, _) in known.items() if name in present}
    absent: set[bytes] = set()
    unreadable = {number for number, _ in known.values()} - paths.keys()
    yield from _row_faults(db, paths, unreadable, absent, unread)
    if missing is not None:
        missing |= absent
    elif absent:
        yield not_listed(len(absent))


def _gone(db: sqlite3.Connection, layers: Path) -> Iterator[str]:
    """Layers that are listed and not there. Asked twice, since gc may be removing one just now: it takes a doomed one's
    file away before others see that it is not listed any more, and may be killed in between."""
    for (name,) in db.execute("SELECT name FROM layers").fetchall():
        is_there = isinstance(name, bytes) and (layers / (name.hex() + SUFFIX)).exists()
        if not is_there and db.execute("SELECT 1 FROM layers WHERE name = ? AND doomed = 0", (name,)).fetchone():
            yield f"it lists layer {name.hex() if isinstance(name, bytes) else name!r}, which is not there"


def _other_faults(db: sqlite3.Connection) -> Iterator[str]:
    """What is not about objects. The sequence keeps a number from being given to a second layer."""
    (odd,) = db.execute("SELECT count(*) FROM layers WHERE doomed NOT IN (0, 1)").fetchone()
    (highest,) = db.execute("SELECT coalesce(max(id), 0) FROM layers").fetchone()
    sequence = db.execute("SELECT name, seq FROM sqlite_sequence").fetchall()
    good = [(name, number) for name, number in sequence if name == "layers" and type(number) is int]
    if odd or good != sequence or max((number for _, number in good), default=0) < highest:
        yield "its list of layers has a row that makes no sense"


def not_listed(count: int) -> str:
    """That an index lacks so many objects."""
    return f"{count:,} objects of layers that it lists are not in it"


def _row_faults(
    db: sqlite3.Connection,
    paths: dict[int, Path],
    unreadable: set[int],
    absent: set[bytes],
    unread: dict[Path, OSError],
) -> Iterator[str]:
    """Compare the rows of objects with the footers of their layers. What is damaged is told where layers are.
    `absent` takes what has no row, `unread` the layers that could not be read."""
    (total,) = db.execute("SELECT count(*) FROM objects").fetchone()
    wrong = 0
    for low, high in _ranges(total // _AT_ONCE + 1):
        expected = _expected(paths, unreadable, unread, low, high)
        rows = db.execute(
            "SELECT digest, layer, block, start, length FROM objects WHERE digest >= ? AND digest < ?", (low, high)
        )
        for digest, *place in rows:
            wrong += tuple(place) not in expected.pop(digest, ()) and place[0] not in unreadable
        absent.update(expected)
    if wrong:
        yield f"{wrong:,} of its {total:,} rows do not fit the layers"


def _ranges(parts: int) -> Iterator[tuple[bytes, bytes]]:
    """All digests, in about so many ranges."""
    bounds = [(65536 * part // parts).to_bytes(2, "big") for part in range(parts)]
    yield from pairwise([*bounds, b"\xff" * 33])


def _expected(
    paths: dict[int, Path], unreadable: set[int], unread: dict[Path, OSError], low: bytes, high: bytes
) -> dict[bytes, tuple[_Place, ...]]:
    """Where the objects of a range lie: an object may be in several layers."""
    found: dict[bytes, tuple[_Place, ...]] = {}
    for number, path in paths.items():
        try:
            with closing(LayerReader(path)) as reader:
                for place in reader.footer().places():
                    if low <= place.digest < high:
                        where = (number, place.block, place.offset, place.length)
                        found[place.digest] = (*found.get(place.digest, ()), where)
        except (FileNotFoundError, TreeringError):  # gc has removed it just now; or it is damaged
            unreadable.add(number)
        except OSError as error:
            raise_shortage(error)
            unreadable.add(number)
            unread[path] = error
    return found
