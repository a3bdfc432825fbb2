"""The on-disk format, pinned by files: what was written must be readable for ever, and be written the same again.

See tests/golden/README.md before changing anything here.
"""

import json
import random
import shutil
import stat
import struct
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from blake3 import blake3

from runtime import records
from runtime.records import ContainerPaths, Generation, Record
from runtime.settings import Settings
from tests.golden import make_store
from tests.support.values import directory
from vcs import encoding
from vcs.check import check
from vcs.errors import UnknownFormat
from vcs.layers.format import CODEC_RAW, CODEC_SUMMED, CODEC_ZSTD, KIND_CHUNKS, KIND_TREES
from vcs.layers.parts import Parts
from vcs.layers.reader import LayerReader
from vcs.layers.writer import LayerWriter
from vcs.links import group_id
from vcs.model import (
    Chunked,
    CommitId,
    Data,
    Device,
    Entry,
    Link,
    ListItem,
    RootId,
    Special,
    Symlink,
    Tree,
    TreeItem,
)
from vcs.store import Store
from vcs.trees import write_root

GOLDEN = Path(__file__).parent / "golden"
A, B = b"\xaa" * 32, b"\xbb" * 32

VALUES: dict[str, bytes] = {
    "an empty tree": encoding.encode_entries([]),
    "a tree with every content": encoding.encode_entries([
        Entry(b"a-file", stat.S_IFREG | 0o644, 0, 0, 1, Data(5, A)),
        Entry(b"b-empty", stat.S_IFREG | 0o600, 1000, 100, -1, Data(0, b"")),
        Entry(b"c-chunked", stat.S_IFREG | 0o4755, 0xFFFFFFFF, 0, (1 << 63) - 1, Chunked(1 << 40, A, 4096)),
        Entry(b"d-symlink", stat.S_IFLNK | 0o777, 0, 0, 0, Symlink(b"../\xff")),
        Entry(b"e-device", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3)),
        Entry(b"f-fifo", stat.S_IFIFO | 0o600, 0, 0, 0, Special()),
        Entry(b"g-tree", stat.S_IFDIR | 0o1777, 0, 0, -(1 << 63), Tree(B, 7, 1 << 33, 2)),
        Entry(b"h-xattrs", stat.S_IFREG | 0o644, 0, 0, 0, Data(1, A), ((b"user.a", b""), (b"user.b", b"\0"))),
        Entry(b"i-link", stat.S_IFREG | 0o644, 0, 0, 0, Data(1, A), (), Link(b"\x11" * 16, 2)),
    ]),
    "a tree index": encoding.encode_tree_index([TreeItem(b"a", A, 300), TreeItem(b"m\xff", B, 70_000)]),
    "a chunk list": encoding.encode_list([ListItem(131_072, A), ListItem(1 << 40, b""), ListItem(7, B)], leaf=True),
    "a list of lists": encoding.encode_list([ListItem(1 << 40, A), ListItem(7, B)], leaf=False),
    "a root": encoding.encode_root(Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, Tree(A, 0, 0, 0))),
}  # fmt: skip


@pytest.mark.parametrize("name", VALUES)
def test_encodings_and_digests(name: str) -> None:
    expected = json.loads((GOLDEN / "objects.json").read_text())[name]
    assert VALUES[name].hex() == "".join(expected["bytes"].split())
    assert encoding.digest(VALUES[name]).hex() == expected["digest"]
    assert blake3(VALUES[name]).hexdigest() == expected["digest"]


def test_the_golden_objects_are_all_tested() -> None:
    assert json.loads((GOLDEN / "objects.json").read_text()).keys() == VALUES.keys()


def test_large_directories_are_cut_where_they_always_were() -> None:
    names = [b"%06d" % number for number in range(20_000)]
    cuts = [len(part) for part in encoding.split(names, lambda name: name)]
    assert (len(cuts), cuts[:8]) == tuple(json.loads((GOLDEN / "cuts.json").read_text()))


def test_hard_link_groups_are_named_as_they_always_were() -> None:
    assert group_id(None, b"/a").hex() == "4c8d77188bb1162c53e6f07c43230384"
    assert group_id(RootId(A), b"/a").hex() == "3d2e788f6898d39ff22374e96a686cc7"


# -- layers

RAW_OBJECTS = [(KIND_CHUNKS, bytes(range(64))), (KIND_TREES, b"\x92\x00\x90"), (KIND_CHUNKS, bytes(range(64, 200)))]
SUMMED_OBJECTS = [
    (KIND_CHUNKS, random.Random(1).randbytes(6000)),
    (KIND_TREES, b"tree " * 500),
    (KIND_CHUNKS, random.Random(2).randbytes(3000)),
]
"""What does not compress; the two chunks share a block of two pieces."""
ZSTD_OBJECTS = [(KIND_CHUNKS, b"compress " * 1000), (KIND_TREES, b"tree " * 500), (KIND_CHUNKS, b"again " * 100)]


def write_layer(directory: Path, objects: list[tuple[int, bytes]]) -> Path:
    writer = LayerWriter(directory)
    for kind, data in objects:
        writer.add(kind, encoding.digest(data), data)
    name, _ = writer.finish()
    return directory / f"{name.hex()}.layer"


def test_a_layer_is_written_byte_for_byte(tmp_path: Path) -> None:
    written = write_layer(tmp_path, RAW_OBJECTS).read_bytes()
    assert written.hex() == (GOLDEN / "raw.layer").read_bytes().hex()


def test_sums_are_written_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/format.md has them, but for a block of trees that is compressed."""
    monkeypatch.setattr("vcs.layers.writer._SUMMED_LEAST", 9000)
    chunks = [data for kind, data in SUMMED_OBJECTS if kind == KIND_CHUNKS]
    block = b"".join(chunks)
    sums = b"".join(blake3(block[at : at + 8192]).digest()[:8] for at in (0, 8192))
    row = struct.pack("<IIIBBH", 9000, 9000, 2, 2, 0, 0)
    digests = b"".join(blake3(chunk).digest() for chunk in chunks)
    footer = struct.pack("<II", 1, 2) + row + blake3(sums).digest() + digests + struct.pack("<II", 6000, 3000)
    trailer = struct.pack("<QII", 16 + 9000 + 16, len(footer), 2) + blake3(footer).digest() + b"GNIREERT"
    expected = b"TREERING" + struct.pack("<II", 1, 0) + block + sums + footer + trailer
    written = write_layer(tmp_path, [(kind, data) for kind, data in SUMMED_OBJECTS if kind == KIND_CHUNKS])
    assert written.read_bytes().hex() == expected.hex()


@pytest.mark.parametrize(
    ("name", "objects", "codecs"),
    [
        ("raw", RAW_OBJECTS, {CODEC_RAW}),
        ("summed", SUMMED_OBJECTS, {CODEC_SUMMED, CODEC_ZSTD}),
        ("zstd", ZSTD_OBJECTS, {CODEC_ZSTD}),
    ],
)
def test_a_layer_is_read(name: str, objects: list[tuple[int, bytes]], codecs: set[int]) -> None:
    reader = LayerReader(GOLDEN / f"{name}.layer")
    footer = reader.footer()
    assert {block.codec for block in footer.blocks} == codecs
    found = {place.digest: reader.block(place.block)[place.offset :][: place.length] for place in footer.places()}
    assert found == {encoding.digest(data): data for _, data in objects}
    reader.close()


def test_a_part_is_read_by_its_sums() -> None:
    reader = LayerReader(GOLDEN / "summed.layer")
    parts = Parts(reader, 10)
    for kind, data in SUMMED_OBJECTS:
        assert parts.read(encoding.digest(data), 100, 2400) == (data[100:2400] if kind == KIND_CHUNKS else None)
    reader.close()


# -- a whole store


@pytest.fixture
def store_v1(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    subprocess.run(["tar", "-xf", GOLDEN / "store-v1.tar", "-C", path], check=True)
    for name in ("refs/tags", "refs/heads", "objects/info", "objects/pack"):
        (path / "history.git" / name).mkdir(parents=True, exist_ok=True)
    return path


def test_a_store_of_format_1_is_read_to_the_last_byte(store_v1: Path) -> None:
    with Store.open(store_v1) as store:
        assert make_store.describe(store) == (GOLDEN / "store-v1.txt").read_text()
        report = check(store)
        assert (report.problems, report.commits, report.unreachable) == ([], 2, 0)
        snapshot = store.snapshot_of(store.history.resolve("v1"))
        sparse = snapshot.lookup(b"var/sparse").content
        assert isinstance(sparse, Chunked)
        assert snapshot.read(sparse, (1 << 40) + 2) == b"\0\0tail"
        assert [change.message for change in store.history.reflog("refs/heads/main")] == ["step 1", "step 0"]


def test_a_store_of_format_1_can_be_written_to(store_v1: Path) -> None:
    with Store.open(store_v1) as store:
        old = store.history.resolve("main")
        with store.batch() as batch:
            root = write_root(batch, directory(batch, {"new": b"file"}))
        made = store.add_commit(root, {}, "more\n", make_store.AUTHOR, (old,))
        store.history.move("refs/heads/main", made, old, "more", make_store.AUTHOR)
        assert check(store).problems == []


def test_the_same_roots_are_made_today(tmp_path: Path) -> None:
    make_store.make(tmp_path / "today")
    with Store.open(tmp_path / "today") as today:
        assert make_store.describe(today) == (GOLDEN / "today.txt").read_text()


def test_a_large_file_alone_may_be_cut_otherwise_than_it_was() -> None:
    was, today = ((GOLDEN / name).read_text().splitlines() for name in ("store-v1.txt", "today.txt"))
    other = [line.split()[0] for line, old in zip(today, was, strict=True) if line != old]
    assert other == ["branch", "tag", "commit", "b'/'", "b'/big'"]


# -- versions of the future


def test_a_store_of_another_format_is_refused(store_v1: Path) -> None:
    (store_v1 / "format").write_text("treering store 2\n")
    with pytest.raises(UnknownFormat, match="has format 2; this program knows format 1"):
        Store.open(store_v1)


def test_a_layer_of_another_version_is_refused(store_v1: Path) -> None:
    layer = next((store_v1 / "layers").iterdir())
    data = bytearray(layer.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    layer.chmod(0o600)
    layer.write_bytes(data)
    with pytest.raises(UnknownFormat, match="version 2"):
        Store.open(store_v1)


RECORD = Record(
    "0123456789ab", "web", 1_700_000_000.5, "main",
    Settings(("sh", "-c", "true"), ("A=b",), "/srv", "www", hostname="h"),
    (Generation(0, CommitId("a" * 40), 1_700_000_000.5), Generation(1, CommitId("b" * 40), 1_700_000_001.0, 0)), 1,
)  # fmt: skip


def test_a_container_record_of_version_1_is_read(tmp_path: Path) -> None:
    paths = ContainerPaths(tmp_path)
    shutil.copy(GOLDEN / "record-v1.json", paths.record)
    assert records.load(paths) == RECORD
    records.save(paths, RECORD)
    assert records.load(paths) == RECORD


@pytest.mark.parametrize("version", [0, 3, "1", None])
def test_a_container_record_of_another_version_is_refused(tmp_path: Path, version: Any) -> None:
    paths = ContainerPaths(tmp_path)
    fields = json.loads((GOLDEN / "record-v1.json").read_text()) | {"version": version}
    paths.record.write_bytes(msgspec.json.encode(fields))
    with pytest.raises(UnknownFormat, match=rf"version {version}, this program knows 2"):
        records.load(paths)
