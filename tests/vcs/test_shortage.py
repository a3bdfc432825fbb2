"""Too little memory is told as that, and never as damage of what was being read."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import random
import resource
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.support.ending import fork
from tests.torture.pressure import address_space, all_that_is_free, limit
from vcs.check.history import loose_object
from vcs.decompress import decompressed
from vcs.layers.format import CODEC_ZSTD, KIND_CHUNKS, Block
from vcs.layers.reader import decompress
from vcs.loose import LooseObjects
from vcs.repair.salvage import _frame

DATA = b"".join(b"%d " % random.Random(number).randrange(1 << 40) for number in range(60_000))
PACKED = zstandard.ZstdCompressor(level=12).compress(DATA)
OBJECT = b"blob %d\0" % len(DATA) + DATA
OID = hashlib.sha1(OBJECT).hexdigest()
DONE, SHORT, WRONG = "done", "short", "wrong"
_STEP = 16 << 10
_MOST = 3000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A layer's block, an object of git's, and archives."""
    (tmp_path / "block").write_bytes(PACKED)
    (tmp_path / OID[:2]).mkdir()
    (tmp_path / OID[:2] / OID[2:]).write_bytes(zlib.compress(OBJECT))
    (tmp_path / "gzip").write_bytes(gzip.compress(DATA))
    (tmp_path / "xz").write_bytes(lzma.compress(DATA))
    return tmp_path


def _block(_: Path) -> bool:
    return decompress(PACKED, Block(0, len(PACKED), len(DATA), 1, CODEC_ZSTD, KIND_CHUNKS)) == DATA


def _salvaged(files: Path) -> bool:
    with io.FileIO(files / "block") as file:
        return _frame(file, 0)[0] == DATA


def _object(files: Path) -> bool:
    return loose_object((files / OID[:2] / OID[2:]).read_bytes(), OID) == OBJECT


def _object_for_a_command(files: Path) -> bool:
    return LooseObjects(files).checked(OID) is None  # it is large, and whole


def _archive(name: str) -> Callable[[Path], bool]:
    def read(files: Path) -> bool:
        stream = decompressed(io.BytesIO((files / name).read_bytes()))
        content = b""
        while data := stream.read(1 << 16):
            content += data
        return content == DATA

    return read


READS = {
    "block": _block, "salvaged block": _salvaged, "object": _object, "object for a command": _object_for_a_command,
    "zstd": _archive("block"), "gzip": _archive("gzip"), "xz": _archive("xz"),
}  # fmt: skip


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_whole_is_read_or_is_too_much(files: Path, read: Callable[[Path], bool]) -> None:
    child = fork()
    if not child:
        try:
            (files / "codes").write_text(" ".join(_with_more_and_more(read, files)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    codes = (files / "codes").read_text().split()
    assert set(codes) == {SHORT, DONE}, codes
    assert codes[-1] == DONE, codes


def _with_more_and_more(read: Callable[[Path], bool], files: Path) -> list[str]:
    """What becomes of it in a process that may have a little more memory each time."""
    codes: list[str] = []
    size = address_space("VmSize")
    hoard = all_that_is_free()
    while codes[-3:] != [DONE] * 3 and len(codes) < _MOST:
        limit(size + len(codes) * _STEP)
        try:
            code = DONE if read(files) else WRONG
        except MemoryError:
            code = SHORT
        except Exception as error:
            code = type(error).__name__
        limit(resource.RLIM_INFINITY)
        codes.append(code)
    del hoard
    return codes
