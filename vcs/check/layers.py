"""The layer files: their tables, and with `read_data` every byte of them.

Blocks are decompressed and their objects digested by threads (zstd and BLAKE3 release Python's lock), while this one
reads the file and digests it as a whole. In memory are as many blocks as there are threads, twice.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from blake3 import blake3

from vcs.check.report import Progress, Report
from vcs.encoding import digest as digest_of
from vcs.errors import Corrupt, TreeringError
from vcs.layers.format import HEADER, PIECE, SUFFIX, Block
from vcs.layers.reader import LayerReader, decompress
from vcs.model import LayerId
from vcs.shortage import raise_shortage
from vcs.sums import sums_of

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_WITHOUT_THREADS = 4 << 20
"""Bytes of layers: for fewer it is not worth starting threads."""
_PIECE = 1 << 20

_Objects = list[tuple[bytes, int, int]]


@dataclass(slots=True)
class LayerFault:
    """What is wrong with one layer."""

    message: str
    objects: dict[bytes, str] = field(default_factory=dict)
    """The objects that cannot be read from it, by digest, and why."""
    has_tables: bool = True
    """Whether its footer can be read; if not, `objects` is empty though none of them can be read."""


class Layers:
    """The layers in a directory, to be checked one after the other."""

    def __init__(self, directory: Path, read_data: bool, report: Report, progress: Progress) -> None:
        self._directory = directory
        self._read_data = read_data
        self._report = report
        self._progress = progress
        self._sizes = dict(sorted(layer_files(directory)))
        self._total = sum(self._sizes.values())
        self._pool: ThreadPoolExecutor | None = None

    def faults(self) -> Iterator[tuple[LayerId, LayerFault]]:
        """The layers in which something is wrong."""
        if self._read_data and self._total > _WITHOUT_THREADS:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "check")
        try:
            for name, size in self._sizes.items():
                fault = self._check(name, size)
                if fault is not None:
                    self._report.layers.add(name)
                    self._report.add("layer", f"layer {name.hex()} is damaged: {fault.message}", layer=name.hex())
                    yield name, fault
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)

    def _check(self, name: LayerId, size: int) -> LayerFault | None:
        path = self._directory / (name.hex() + SUFFIX)
        try:
            with closing(LayerReader(path)) as reader, path.open("rb", buffering=0) as file:
                return self._read(name, reader, file) if self._read_data else None
        except FileNotFoundError:
            return None  # gc has removed it just now
        except OSError as error:
            raise_shortage(error)
            return LayerFault(f"it cannot be read: {error.strerror}", has_tables=False)
        except TreeringError as error:
            self._report.bytes_read += size if self._read_data else 0
            return LayerFault(str(error).removeprefix(f"{path.name}: "), has_tables=False)

    def _read(self, name: LayerId, reader: LayerReader, file: FileIO) -> LayerFault | None:
        """Read a whole file once."""
        bad: dict[bytes, str] = {}
        have_sums = True
        hasher = blake3(file.read(HEADER.size))
        for damaged, has_its_sums in self._blocks(reader, file, hasher):
            have_sums &= has_its_sums
            for digest, _, _ in damaged:
                bad[digest] = f"object {digest.hex()} in layer {name.hex()} is damaged"
        if hasher.digest() == name and not bad:
            return None if have_sums else LayerFault("its sums are not those of its bytes")
        return LayerFault("its bytes do not have its digest", bad)

    def _blocks(self, reader: LayerReader, file: FileIO, hasher: blake3) -> Iterator[_Examined]:
        """What is found of each block. They follow one another, so that each is digested as it comes; then the rest."""
        waiting: deque[Future[_Examined]] = deque()
        for number in range(reader.block_count):
            block, stored = reader.stored(number)
            hasher.update(stored)
            file.seek(len(stored), os.SEEK_CUR)
            self._count(len(stored))
            what = block, stored, reader.objects(number), reader.sums(number)
            if self._pool is None:
                yield _examined(*what)
                continue
            waiting.append(self._pool.submit(_examined, *what))
            while len(waiting) > 2 * (os.cpu_count() or 1):
                yield waiting.popleft().result()
        while rest := file.read(_PIECE):
            hasher.update(rest)
            self._count(len(rest))
        for done in waiting:
            yield done.result()

    def _count(self, read: int) -> None:
        self._report.bytes_read += read
        self._progress("layers", self._report.bytes_read, self._total)


def layer_files(directory: Path) -> Iterator[tuple[LayerId, int]]:
    """The layers that are there, and their sizes in bytes."""
    for entry in os.scandir(directory):
        if entry.name.endswith(SUFFIX):
            try:
                yield LayerId(bytes.fromhex(entry.name[: -len(SUFFIX)])), entry.stat().st_size
            except (FileNotFoundError, ValueError):
                continue  # removed by gc just now; or not a layer's name


class _Examined(NamedTuple):
    damaged: _Objects
    """The objects of a block that do not have their digests."""
    has_its_sums: bool


def _examined(block: Block, stored: bytes, objects: _Objects, sums: bytes) -> _Examined:
    has_its_sums = not sums or sums == sums_of(stored, PIECE)
    try:
        data = memoryview(decompress(stored, block))
    except Corrupt:
        return _Examined(objects, has_its_sums)
    damaged = [item for item in objects if digest_of(data[item[1] : item[1] + item[2]]) != item[0]]
    return _Examined(damaged, has_its_sums)
