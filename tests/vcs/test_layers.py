"""Layer files: what goes in comes out, the same objects make the same bytes, and no damage goes unnoticed."""

import fcntl
import os
import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from vcs.encoding import digest
from vcs.errors import Corrupt, UnknownFormat
from vcs.layers.compression import FAST
from vcs.layers.format import (
    CODEC_SUMMED,
    CODEC_ZSTD,
    HEADER,
    KIND_CHUNKS,
    KIND_TREES,
    SUFFIX,
    TRAILER,
    Block,
    check_header,
    decode_footer,
    decode_trailer,
    encode_footer,
)
from vcs.layers.reader import LayerReader, decompress
from vcs.layers.writer import INCOMING, LayerWriter, remove_abandoned

Object = tuple[int, bytes]


def write(directory: Path, objects: list[Object], threads: int | None = None) -> Path:
    writer = LayerWriter(directory, threads=threads)
    try:
        for kind, data in objects:
            writer.add(kind, digest(data), data)
        name, size = writer.finish()
    finally:
        writer.close()
    path = directory / (name.hex() + SUFFIX)
    assert path.stat().st_size == size
    return path


def read_all(path: Path) -> dict[bytes, bytes]:
    reader = LayerReader(path)
    found = {}
    for place in reader.footer().places():
        found[place.digest] = reader.block(place.block)[place.offset : place.offset + place.length]
    reader.close()
    return found


def some(count: int = 300) -> list[Object]:
    made = random.Random(count)
    return [
        (made.choice((KIND_CHUNKS, KIND_TREES)), (b"%d " % n) * made.randrange(1, 3000) + made.randbytes(50))
        for n in range(count)
    ]


contents = st.binary(max_size=200) | st.builds(
    lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 9), st.integers(40_000, 400_000)
)
objects = st.lists(
    st.tuples(st.sampled_from((KIND_CHUNKS, KIND_TREES)), contents), max_size=12, unique_by=lambda item: item[1]
)


@settings(max_examples=30)
@given(objects)
def test_what_goes_in_comes_out(tmp_path_factory: pytest.TempPathFactory, found: list[Object]) -> None:
    path = write(tmp_path_factory.mktemp("layer"), found)
    assert read_all(path) == {digest(data): data for _, data in found}


def test_a_layer_is_named_by_its_bytes_and_is_read_only(tmp_path: Path) -> None:
    path = write(tmp_path, some())
    assert blake3(path.read_bytes()).hexdigest() == path.stem
    assert path.stat().st_mode & 0o777 == 0o400
    assert os.listdir(tmp_path) == [path.name]


def test_the_same_objects_make_the_same_layer_with_any_number_of_threads(tmp_path: Path) -> None:
    names = {write(tmp_path, some(), threads=threads).name for threads in (1, 2, 7)}
    assert len(names) == 1


def test_small_objects_share_blocks_by_kind_and_large_ones_have_their_own(tmp_path: Path) -> None:
    large = random.Random(1).randbytes(FAST.chunk_block)
    small = [(kind, bytes([kind, n]) * 100) for n in range(50) for kind in (KIND_CHUNKS, KIND_TREES)]
    reader = LayerReader(write(tmp_path, [*small, (KIND_CHUNKS, large)]))
    blocks = sorted((block.kind, block.objects, block.codec) for block in reader.footer().blocks)
    assert blocks == [(KIND_CHUNKS, 1, CODEC_SUMMED), (KIND_CHUNKS, 50, CODEC_ZSTD), (KIND_TREES, 50, CODEC_ZSTD)]
    reader.close()


def test_an_empty_layer_can_be_read(tmp_path: Path) -> None:
    assert read_all(write(tmp_path, [])) == {}


def test_nothing_is_left_of_a_writer_that_was_closed_early(tmp_path: Path) -> None:
    writer = LayerWriter(tmp_path)
    for kind, data in some(2000):
        writer.add(kind, digest(data), data)
    assert [name for name in os.listdir(tmp_path) if name.startswith(INCOMING)]
    writer.close()
    writer.close()
    assert os.listdir(tmp_path) == []


def test_abandoned_files_go_and_those_being_written_stay(tmp_path: Path) -> None:
    dead, alive = tmp_path / f"{INCOMING}dead", tmp_path / f"{INCOMING}alive"
    dead.write_bytes(b"half a layer")
    with alive.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert remove_abandoned(tmp_path) == [dead]
        assert os.listdir(tmp_path) == [alive.name]
    assert remove_abandoned(tmp_path) == [alive]


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    writer = LayerWriter(tmp_path)
    honest = getattr(os, call)

    def full(fd: int, *data: bytes) -> int:
        if writer._offset > 20 << 20:
            raise OSError(28, "No space left on device")
        return int(honest(fd, *data) or 0)

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):  # noqa: PT012  # whichever of them meets it
        for number in range(200):
            data = random.Random(number).randbytes(400_000)
            writer.add(KIND_CHUNKS, digest(data), data)
        writer.finish()
    writer.close()
    writer.close()
    assert os.listdir(tmp_path) == []


# -- damage


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("good"), some(40)).read_bytes()


def damaged(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / ("ab" * 32 + SUFFIX)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("keep", [0, 1, HEADER.size - 1, HEADER.size, 100, -1, -TRAILER.size, -TRAILER.size - 1])
def test_a_truncated_layer_is_refused(tmp_path: Path, good: bytes, keep: int) -> None:
    with pytest.raises(Corrupt, match=r"^ababab.*\.layer: "):
        LayerReader(damaged(tmp_path, good[:keep]))


def test_every_flipped_byte_is_noticed(tmp_path: Path, good: bytes) -> None:
    """By the reader for header, tables and trailer, and in a block by the digests of its objects."""
    wanted = read_all(damaged(tmp_path, good))
    for at in sorted({*range(HEADER.size), *range(0, len(good), 97), *range(len(good) - TRAILER.size, len(good))}):
        bad = good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :]
        (tmp_path / ("ab" * 32 + SUFFIX)).unlink()
        try:
            found = read_all(damaged(tmp_path, bad))
        except (Corrupt, UnknownFormat):
            continue
        assert found.keys() == wanted.keys()
        assert any(digest(data) != name for name, data in found.items()) or found == wanted, at


def test_garbage_is_no_layer(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="magic"):
        LayerReader(damaged(tmp_path, b"x" * 10_000))


@pytest.mark.parametrize("version", [0, 2, 0xFFFFFFFF])
def test_another_version_is_refused_by_its_number(tmp_path: Path, good: bytes, version: int) -> None:
    with pytest.raises(UnknownFormat, match=f"version {version}") as caught:
        LayerReader(damaged(tmp_path, struct.pack("<8sII", b"TREERING", version, 0) + good[HEADER.size :]))
    assert caught.value.facts["version"] == version


def test_unknown_flags_are_refused(good: bytes) -> None:
    with pytest.raises(UnknownFormat):
        check_header(struct.pack("<8sII", b"TREERING", 1, 1))


def block(**fields: Any) -> Block:
    return replace(Block(offset=16, stored=10, length=10, objects=1, codec=0, kind=0), **fields)


@pytest.mark.parametrize(
    ("blocks", "lengths", "message"),
    [
        ([block()], [9], "not as long as its objects"),
        ([block(objects=2)], [10], "do not hold"),
        ([block(codec=9)], [10], "unknown codec"),
        ([block(kind=9)], [10], "unknown codec, kind"),
        ([block(length=(64 << 20) + 1)], [(64 << 20) + 1], "size"),
        ([block(), block()], [10, 10], "do not end where"),
    ],
)
def test_a_footer_that_contradicts_itself_is_refused(blocks: list[Block], lengths: list[int], message: str) -> None:
    data = encode_footer(blocks, [bytes(32)] * len(lengths), lengths)
    body, trailer = data[: -TRAILER.size], data[-TRAILER.size :]
    _, _, expected = decode_trailer(trailer, 26 + len(data))
    with pytest.raises(Corrupt, match=message):
        decode_footer(body, expected, 26)


def test_counts_that_do_not_fit_are_refused() -> None:
    for body in (b"", b"\xff" * 8, struct.pack("<II", 1, 1), struct.pack("<II", 0xFFFFFFFF, 0)):
        with pytest.raises(Corrupt):
            decode_footer(body, digest(body), HEADER.size)


def test_a_block_never_yields_more_than_its_length() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(10 << 20))
    for stored in (bomb, zstandard.compress(bytes(10 << 20)), b"not zstd", zstandard.compress(b"x" * 5) + b"!"):
        with pytest.raises(Corrupt):
            decompress(stored, block(stored=len(stored), length=5, codec=CODEC_ZSTD))


def test_asking_for_a_block_that_is_not_there(tmp_path: Path, good: bytes) -> None:
    reader = LayerReader(damaged(tmp_path, good))
    with pytest.raises(Corrupt, match="no block 99"):
        reader.block(99)
    reader.close()
