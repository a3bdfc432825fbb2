"""Blocks that have sums: parts of them are what the whole has, and no damage goes unnoticed."""

import os
import random
import struct
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcs.encoding import digest
from vcs.errors import Corrupt, UnknownFormat
from vcs.layers.compression import FAST, TIGHT, Compression
from vcs.layers.format import (
    CODEC_RAW,
    CODEC_SUMMED,
    CODEC_ZSTD,
    HEADER,
    KIND_CHUNKS,
    KIND_TREES,
    PIECE,
    SUFFIX,
    TRAILER,
    Block,
    decode_footer,
    encode_footer,
)
from vcs.layers.parts import Parts
from vcs.layers.reader import LayerReader
from vcs.layers.writer import LayerWriter
from vcs.sums import SUM, sums_of

MANY = 1000


def noise(seed: int, size: int) -> bytes:
    """What does not compress."""
    return random.Random(seed).randbytes(size)


def chunks_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """No chunk twice."""
    ends = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    return list(dict.fromkeys(data[start:end] for start, end in pairwise(ends)))


def write(
    directory: Path,
    chunks: list[bytes],
    compression: Compression = FAST,
    threads: int | None = None,
    kind: int = KIND_CHUNKS,
) -> Path:
    writer = LayerWriter(directory, compression, threads)
    try:
        for data in chunks:
            writer.add(kind, digest(data), data)
        name, _ = writer.finish()
    finally:
        writer.close()
    return directory / (name.hex() + SUFFIX)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[LayerReader, bytes]]:
    """A layer of one block, and what it holds."""
    data = noise(1, 200_001)
    reader = LayerReader(write(tmp_path, [data]))
    assert [block.codec for block in reader.blocks] == [CODEC_SUMMED]
    yield reader, data
    reader.close()


# -- writing


def test_what_does_not_compress_and_is_long_enough_has_sums(tmp_path: Path) -> None:
    long, short, text = noise(1, 200_000), noise(2, 65_535), b"text " * 40_000
    for number, (data, kind, compression, codec) in enumerate([
        (long, KIND_CHUNKS, FAST, CODEC_SUMMED),
        (long, KIND_CHUNKS, TIGHT, CODEC_SUMMED),
        (noise(3, 65_536), KIND_CHUNKS, FAST, CODEC_SUMMED),
        (short, KIND_CHUNKS, FAST, CODEC_RAW),
        (long, KIND_TREES, FAST, CODEC_RAW),
        (text, KIND_CHUNKS, FAST, CODEC_ZSTD),
    ]):  # fmt: skip
        place = tmp_path / str(number)
        place.mkdir()
        path = write(place, [data], compression, kind=kind)
        reader = LayerReader(path)
        assert [block.codec for block in reader.blocks] == [codec], number
        assert reader.block(0) == data
        assert path.stat().st_size < len(data) * 1.002 + 200
        reader.close()


def test_each_piece_of_8192_bytes_has_8_of_its_digest(opened: tuple[LayerReader, bytes]) -> None:
    reader, data = opened
    assert reader.stored(0)[1] == data
    sums = reader.sums(0)
    assert len(sums) == SUM * 25
    assert sums[:8] == digest(data[:8192])[:8]
    assert sums[-8:] == digest(data[24 * 8192 :])[:8]
    assert sums == sums_of(data, PIECE)


def test_small_chunks_share_sums_as_they_share_a_block(tmp_path: Path) -> None:
    chunks = [noise(number, 40_000) for number in range(20)] + [b"text " * 40_000]
    reader = LayerReader(write(tmp_path, chunks))
    blocks = [reader.stored(number)[0] for number in range(reader.block_count)]
    assert {block.codec for block in blocks} == {CODEC_SUMMED, CODEC_ZSTD}
    assert max(block.objects for block in blocks) > 1
    parts = Parts(reader, MANY)
    assert len(parts) == 20
    for chunk in chunks[:-1]:
        assert parts.read(digest(chunk), 0, len(chunk)) == chunk
    assert parts.read(digest(chunks[-1]), 0, 1) is None
    reader.close()


def test_the_same_chunks_make_the_same_layer_with_any_number_of_threads(tmp_path: Path) -> None:
    chunks = [noise(number, 70_000 + number) for number in range(60)] + [
        b"%d " % number * 90_000 for number in range(9)
    ]
    assert len({write(tmp_path, chunks, threads=threads).name for threads in (1, 2, 7)}) == 1


def test_only_a_layer_with_sums_is_of_the_newer_version(tmp_path: Path) -> None:
    """Others can be read by an older program, and have the names that they always had."""
    for data, version in ((b"text " * 40_000, 1), (noise(1, 200_000), 2)):
        raw = write(tmp_path, [data]).read_bytes()
        assert HEADER.unpack_from(raw)[1] == 1
        assert TRAILER.unpack(raw[-TRAILER.size :])[2] == version


@pytest.mark.parametrize("version", [0, 3])
def test_another_version_is_refused_by_its_number(tmp_path: Path, version: int) -> None:
    path = write(tmp_path, [noise(8, 100_000)])
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, len(data) - TRAILER.size + 12, version)
    other = tmp_path / ("ab" * 32 + SUFFIX)
    other.write_bytes(data)
    with pytest.raises(UnknownFormat, match=f"version {version}"):
        LayerReader(other)


# -- reading


@settings(max_examples=40)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 1 << 30), max_size=6), st.data())
def test_parts_are_what_the_whole_has(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cuts: list[int], data: st.DataObject
) -> None:
    chunks = chunks_of(noise(seed, data.draw(st.integers(1, 600_000))), cuts)
    reader = LayerReader(write(tmp_path_factory.mktemp("layer"), chunks))
    parts = Parts(reader, MANY)
    summed = sum(block.objects for block in reader.blocks if block.codec == CODEC_SUMMED)
    assert len(parts) == summed
    found = 0
    for chunk in chunks:
        start = data.draw(st.integers(0, len(chunk) - 1))
        end = data.draw(st.integers(start + 1, len(chunk)))
        part = parts.read(digest(chunk), start, end)
        assert part in (None, chunk[start:end])
        found += part is not None
    assert found == summed
    reader.close()


def test_only_the_pieces_are_read_in_which_it_lies(
    opened: tuple[LayerReader, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, data = opened
    parts = Parts(reader, MANY)
    read: list[int] = []
    honest = reader.at

    def at(offset: int, length: int) -> bytes:
        read.append(length)
        return honest(offset, length)

    monkeypatch.setattr(reader, "at", at)
    for start, end in ((8192, 12_288), (8191, 12_288), (15_000, 19_096), (200_000, 200_001), (0, len(data))):
        assert parts.read(digest(data), start, end) == data[start:end]
    assert read == [8192, 16_384, 16_384, 200_001 - 24 * 8192, 200_001]


def test_what_is_not_there_is_none(opened: tuple[LayerReader, bytes], tmp_path: Path) -> None:
    assert Parts(opened[0], MANY).read(bytes(32), 0, 1) is None
    reader = LayerReader(write(tmp_path, [b"x" * 100_000]))
    assert len(Parts(reader, MANY)) == 0
    assert Parts(reader, MANY).read(digest(b"x" * 100_000), 0, 1) is None
    reader.close()


def test_of_a_layer_with_too_many_objects_nothing_is_kept(tmp_path: Path) -> None:
    chunks = [noise(number, 70_000) for number in range(10)]
    reader = LayerReader(write(tmp_path, chunks))
    assert len(Parts(reader, 10)) == 10
    assert len(Parts(reader, 9)) == 0
    assert Parts(reader, 9).read(digest(chunks[0]), 0, 1) is None
    reader.close()


@pytest.mark.parametrize(("start", "end"), [(200_000, 200_002), (200_001, 200_002), (1 << 30, (1 << 30) + 1)])
def test_what_ends_behind_its_object_is_refused(opened: tuple[LayerReader, bytes], start: int, end: int) -> None:
    reader, data = opened
    with pytest.raises(Corrupt, match="chunk list"):
        Parts(reader, MANY).read(digest(data), start, end)


# -- damage


def test_every_flipped_byte_of_a_piece_is_noticed(
    opened: tuple[LayerReader, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, data = opened
    parts = Parts(reader, MANY)
    for at in range(PIECE):
        bad = bytearray(data)
        bad[at] ^= 1 << at % 8
        monkeypatch.setattr(reader, "at", lambda offset, length, bad=bad: bytes(bad[offset - HEADER.size :][:length]))
        with pytest.raises(Corrupt, match="sum"):
            parts.read(digest(data), 0, 100)
        assert parts.read(digest(data), PIECE, PIECE + 9) == data[PIECE : PIECE + 9], "the others are whole"


def test_a_piece_that_ends_early_is_noticed(opened: tuple[LayerReader, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, data = opened
    parts = Parts(reader, MANY)
    monkeypatch.setattr(reader, "at", lambda _offset, _length: b"")
    with pytest.raises(Corrupt, match="sum"):
        parts.read(digest(data), 0, 100)


def test_every_flipped_byte_after_the_blocks_is_noticed(tmp_path: Path) -> None:
    """Sums have no part in opening a layer: who asks for them is told."""
    data = noise(5, 70_000)
    path = write(tmp_path, [data])
    raw = path.read_bytes()
    sums, footer = HEADER.size + len(data), int.from_bytes(raw[-56:-48], "little")
    assert footer == sums + len(sums_of(data, PIECE))
    for at in range(sums, len(raw)):
        path.chmod(0o600)
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        if at < footer:
            reader = LayerReader(path)
            assert reader.block(0) == data
            with pytest.raises(Corrupt, match="sums"):
                Parts(reader, MANY)
            reader.close()
        else:
            with pytest.raises((Corrupt, UnknownFormat)):
                LayerReader(path)


@pytest.mark.parametrize(
    ("codec", "sums", "message"),
    [
        (CODEC_SUMMED, b"", "counts"),
        (CODEC_SUMMED, b"1" * 8, "end"),
        (CODEC_SUMMED, b"1" * 24, "end"),
        (CODEC_ZSTD, b"1" * 16, "counts"),
        (CODEC_SUMMED, b"1" * 16, None),
    ],
)
def test_a_footer_whose_sums_contradict_it_is_refused(codec: int, sums: bytes, message: str | None) -> None:
    block = Block(16, PIECE + 5, PIECE + 5, 1, codec, KIND_CHUNKS, sums)
    data = encode_footer([block], [bytes(32)], [PIECE + 5])
    assert data.startswith(sums)
    body = data[len(sums) : -TRAILER.size]
    offset = 16 + PIECE + 5 + len(sums)
    if message is None:
        footer = decode_footer(body, digest(body), offset)
        assert footer.sums == digest(sums)
        assert footer.blocks.sums(0) == (0, len(sums))
        return
    with pytest.raises(Corrupt, match=message):
        decode_footer(body, digest(body), offset)


def test_sums_of_hostile_lengths_are_refused() -> None:
    row = struct.pack("<IIIBBH", 0, 0xFFFFFFFF, 0, CODEC_SUMMED, 0, 0)
    body = struct.pack("<II", 20_000, 0) + row * 20_000 + bytes(32)
    with pytest.raises(Corrupt, match="end"):
        decode_footer(body, digest(body), 16)


def test_a_layer_that_is_read_whole_has_its_sums_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small layers are kept in memory."""
    monkeypatch.setattr("vcs.layers.writer._SUMMED_LEAST", 5000)
    data = noise(9, 9_000)
    reader = LayerReader(write(tmp_path, [data]))
    assert not reader.is_open
    assert Parts(reader, MANY).read(digest(data), 100, 9_000) == data[100:9_000]
    assert reader.sums(0) == sums_of(data, PIECE)
    assert os.listdir(tmp_path)
