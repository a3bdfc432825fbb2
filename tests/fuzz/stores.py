"""What a store keeps, as somebody may have changed it: layer files, trees, records, logs, and the notebook of a
bisection. Lines with a seal are tried as they are and with the right seal: else no change gets past it."""

from __future__ import annotations

import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from runtime import keptlogs, log, records
from runtime.settings import Settings
from tests.fuzz.target import Target
from vcs.bisection import notebook
from vcs.blobreader import BlobReader
from vcs.encoding import (
    check_entry,
    check_tree,
    decode_list,
    decode_root,
    decode_tree,
    digest,
    encode_entries,
    encode_list,
    encode_root,
    encode_tree_index,
)
from vcs.errors import TreeringError
from vcs.layers.format import KIND_CHUNKS, KIND_TREES, TRAILER
from vcs.layers.reader import LayerReader
from vcs.layers.writer import LayerWriter
from vcs.model import Chunked, Data, Device, Entry, Link, ListItem, Special, Symlink, Tree, TreeItem
from vcs.operationlines import HEADER, damaged_lines, without_damage
from vcs.operations import Operations
from vcs.reflogs import ids_in, is_damaged, restored, seal, shortened, with_old, without, without_seal
from vcs.snapshot import Snapshot
from vcs.takingback import stacks
from vcs.testing import MemoryStore

_DIGEST = bytes(range(32))
_OID = "1" * 40


@lru_cache(1)
def _directory() -> Path:
    """Gone with the process; libFuzzer ends one without a word, so the long run gives it a place that it clears."""
    made = tempfile.TemporaryDirectory(prefix="treering-fuzz-")
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@contextmanager
def _file(name: str, data: bytes) -> Iterator[Path]:
    path = _directory() / name
    path.write_bytes(data)
    yield path


def twice(run: Callable[[bytes], None], mend: Callable[[bytes], bytes]) -> Callable[[bytes], None]:
    """A target that tries an input with its digest, seal or checksum mended, and then as it is."""

    def both(data: bytes) -> None:
        again = mend(data)
        if again != data:
            try:
                run(again)
            except TreeringError:
                pass
        run(data)

    return both


# -- layer files


def _layers() -> list[bytes]:
    found = []
    for objects in ((), (b"one", b"two" * 50), tuple(bytes([n]) * n for n in range(1, 40))):
        with tempfile.TemporaryDirectory() as place:
            writer = LayerWriter(Path(place), threads=1)
            for number, data in enumerate(objects):
                writer.add((KIND_CHUNKS, KIND_TREES)[number % 2], digest(data), data)
            if objects:
                writer.finish()
                found.append(next(Path(place).glob("*.layer")).read_bytes())
            else:
                writer.close()
    return found


def with_footer(data: bytes) -> bytes:
    """A layer whose trailer tells of a footer that begins where it did, with its right length and digest."""
    if len(data) < TRAILER.size:
        return data
    offset, _, version, _, magic = TRAILER.unpack(data[-TRAILER.size :])
    if offset > len(data) - TRAILER.size:
        return data
    body = data[offset : -TRAILER.size]
    return data[: -TRAILER.size] + TRAILER.pack(offset, len(body), version, digest(body), magic)


def layer_file(data: bytes) -> None:
    with _file("fuzz.layer", data) as path:
        reader = LayerReader(path)
        try:
            list(reader.footer().places())
            for number in range(min(reader.block_count, 64)):
                length = reader.blocks[number].length
                if length <= 1 << 22:
                    found = len(reader.block(number))
                    assert found == length, "a block is not as long as the footer says"
                reader.objects(number)
        finally:
            reader.close()


# -- trees


def _entries() -> list[Entry]:
    group = Link(bytes(16), 2)
    return [
        Entry(b"a", stat.S_IFREG | 0o644, 0, 0, 0, Data(3, _DIGEST), ((b"user.a", b"b"),)),
        Entry(b"b", stat.S_IFREG | 0o644, 1, 2, -3, Chunked(1 << 40, _DIGEST, 5), (), group),
        Entry(b"c", stat.S_IFLNK | 0o777, 0, 0, 0, Symlink(b"a")),
        Entry(b"d", stat.S_IFDIR | 0o755, 0, 0, 0, Tree(_DIGEST, 1, 2, 0)),
        Entry(b"e", stat.S_IFCHR | 0o600, 0, 0, 0, Device(1, 3)),
        Entry(b"f", stat.S_IFIFO | 0o600, 0, 0, 1 << 62, Special()),
    ]


def _nodes() -> list[bytes]:
    return [
        encode_entries(_entries()), encode_entries([]), encode_tree_index([TreeItem(b"a", _DIGEST, 7)]),
        encode_list([ListItem(3, _DIGEST), ListItem(1 << 40, b"")], leaf=True), encode_list([ListItem(3, _DIGEST)], leaf=False),
        encode_root(Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, Tree(_DIGEST, 0, 0, 0))),
    ]  # fmt: skip


def tree(data: bytes) -> None:
    for decode in (decode_list, decode_root, decode_tree):
        try:
            found = decode(data)
        except TreeringError:
            continue
        if isinstance(found, Entry):
            check_entry(found)
    check_tree(data)


def walk(data: bytes) -> None:
    """A root whose tree these bytes are, and every tree and list in it: what a reader meets who does not check."""
    store = MemoryStore()
    name, leaf = store.put_tree(data), encode_entries(_entries()[:3])

    class Everywhere(MemoryStore):
        def get(self, digest: bytes) -> bytes:
            return data if digest == name else leaf if digest == _DIGEST else super().get(digest)

    source = Everywhere()
    root = source.put_tree(encode_root(Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, Tree(name, 3, 3, 0))))
    view = Snapshot(source, root)  # type: ignore[arg-type]
    directory = view.directory(view.root)
    directory.lookup(b"b")
    for count, entry in enumerate(directory):
        if isinstance(entry.content, (Data, Chunked)) and 0 <= entry.content.size <= 1 << 16:
            try:
                view.read(entry.content)
            except TreeringError:
                pass
        if count > 1000:
            break


def file_list(data: bytes) -> None:
    """A file whose list of chunks these bytes are; every chunk of it is the same three bytes."""
    store = MemoryStore()
    name = store.put_tree(data)
    store.objects[_DIGEST] = b"abc"
    for size in (3, 4096):
        try:
            BlobReader(store, Chunked(size, name, 3)).read(0, 4096)
        except TreeringError:
            pass
    BlobReader(store, Chunked(3 + (1 << 40), name, 3)).read(0, 4096)


# -- lines with seals


def sealed(data: bytes) -> bytes:
    """Every line but the first with the right seal in the place of what it ends with."""
    first, *lines = data.split(b"\n")
    return b"\n".join([first, *(line and line[:-10] + seal(line[:-10]) for line in lines)])


def _operations() -> list[bytes]:
    path = _directory() / "seed.log"
    path.unlink(missing_ok=True)
    operations = Operations(path)
    for number in range(3):
        operations.begin(["branch", "x"], kind="undo" if number else "", of="abc" if number else "")
        operations.append(operations.line({"refs/heads/x": (None, _OID)}, {"c": ({"a": _OID}, None)}))
        operations.append(operations.line({"refs/heads/x": (_OID, None)}))
    found = path.read_bytes()
    return [found, HEADER, found[:-20]]


def operation_log(data: bytes) -> None:
    with _file("operations.log", data) as path:
        list(damaged_lines(path))
        operations = Operations(path)
        found = operations.read()
        stacks(found)
        operations.young_ids(0)
        for name in ("@", "@~1", *(one.id[:3] for one in found[:2])):
            try:
                operations.find(name)
            except TreeringError:
                pass


def repaired_log(data: bytes) -> None:
    """A log that was repaired has nothing wrong with it."""
    if len(data) > 256:
        return  # one flipped byte is looked for by trying all
    with _file("operations.log", HEADER + data) as path:
        without_damage(path)
        assert not list(damaged_lines(path)), "still damaged after the repair"


def _reflog() -> bytes:
    lines = [
        f"{'0' * 40} {_OID} A <a@b> 1700000000 +0000\tcommit: x".encode(),
        f"{_OID} {'2' * 40} A B <> 1700000001 -0130".encode(),
    ]
    return b"".join(line + seal(line) + b"\n" for line in lines)


def reflog(data: bytes) -> None:
    lines = data.split(b"\n")
    ids_in(lines, 1_700_000_000)
    shortened(lines, 1_700_000_001)
    without(lines, {_OID})
    damaged = [line for line in lines if is_damaged(line)]
    for line in lines:
        without_seal(line)
        with_old(line, b"3" * 40)
    for line in damaged[:1]:
        restored(line[-16:])


def _notebook() -> bytes:
    book = notebook.Notebook((notebook.Mark("good", _OID, 7), notebook.Mark("bad", "2" * 40, 8, 1)), "3" * 40)
    notebook.save(_directory(), book)
    return (_directory() / notebook.FILE).read_bytes()


def bisection(data: bytes) -> None:
    with _file(notebook.FILE, data):
        found = notebook.load(_directory())
        assert found is not None
        found.verdicts()


# -- records of containers


def _record() -> bytes:
    generation = records.Generation(1, _OID, 1.5)  # type: ignore[arg-type]
    record = records.Record("id", "name", 1.0, "main", Settings(args=("sh",)), (generation,), 1, 65536)
    return records.render(record)


def record(data: bytes) -> None:
    with _file("record.json", data):
        found = records.load(records.ContainerPaths(_directory()))
        assert found.generation.number < found.next_number
        records.render(found)


def without_digest(data: bytes) -> bytes:
    """A record as the first ones were, to which no digest says that they were changed."""
    at = data.find(b'"digest"')
    comma = data.rfind(b",", 0, at)
    end = data.find(b"\n", at)
    return data if min(at, comma, end) < 0 else data[:comma] + data[end:]


# -- logs of containers


def container_log(data: bytes) -> None:
    for line in data.split(b"\n"):
        log.parse(line)


def kept_log(data: bytes) -> None:
    with _file("kept", data) as path:
        keptlogs._about(path)


_KEPT = (
    b'{"version":1,"id":"a","name":"b","image":"main","commit":"' + _OID.encode() + b'","ended":1.5,"exit_code":null}\n'
)
_JSON = (
    b"[[[[",
    b'{"a":',
    b"null",
    b"1e999",
    b"-1",
    b'"\\ud800"',
    b"9" * 30,
    b'"refs":{',
    b'"containers":{',
    b'"op":"',
)

TARGETS = (
    Target(
        "layer-file", twice(layer_file, with_footer), _layers, (b"TREERING", b"GNIREERT", struct.pack("<I", 1 << 26))
    ),
    Target("tree", tree, _nodes, (b"\xdc\xff\xff", b"\xc4\x20", b"\x91" * 8, b"\xdd\xff\xff\xff\xff", b"\xd9\x01\xff")),
    Target("tree-walk", walk, _nodes, (b"\xdc\xff\xff", b"\xc4\x20" + _DIGEST)),
    Target("file-list", file_list, lambda: _nodes()[3:5], (b"\x93\x03\x91", b"\xc4\x20" + _DIGEST)),
    Target("operation-log", twice(operation_log, sealed), _operations, _JSON),
    Target("operation-repair", repaired_log, lambda: [_operations()[0].partition(b"\n")[2][:120]], _JSON),
    Target("reflog", reflog, lambda: [_reflog()], (b"> 1 +0000\t", b"9" * 30)),
    Target("bisect", twice(bisection, sealed), lambda: [_notebook()], _JSON),
    Target("record", twice(record, without_digest), lambda: [_record(), without_digest(_record())], _JSON),
    Target("container-log", container_log, lambda: [b"2024-05-06T07:08:09.123456789Z stdout F words\nx"]),
    Target("kept-log", kept_log, lambda: [_KEPT], _JSON),
)
