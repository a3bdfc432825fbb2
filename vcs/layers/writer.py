"""Objects in, one durable layer file out.

Full blocks are compressed by threads (zstd releases the GIL) while the caller reads and hashes on; one more thread
writes them in the order they were filled, so the same objects in the same order give the same layer. Nothing is
visible under a layer's name before all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zstandard
from blake3 import blake3

from vcs.durable import begin_to_flush, sync_directory
from vcs.layers.compression import FAST, Compression
from vcs.layers.format import (
    CODEC_RAW,
    CODEC_SUMMED,
    CODEC_ZSTD,
    HEADER,
    KIND_CHUNKS,
    KINDS,
    PIECE,
    SUFFIX,
    Block,
    encode_footer,
    header,
)
from vcs.model import LayerId
from vcs.shortage import raise_shortage
from vcs.sums import sums_of

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

INCOMING = "incoming-"
"""Prefix of layers being written; each is flocked by its writer, so that one without a lock is known to be garbage."""

_JOB = 1 << 20
"""Bytes that are handed to the threads at once: with a job a block, a tenth of an import went into handing over."""
_QUEUED_JOBS = 12
"""How many jobs may wait for compression or writing: bounds the memory. With half as many, the disk is waited for."""
_WITHOUT_THREADS = 512 << 10
"""The first bytes are compressed by the caller. Most commits write no more, and starting threads takes 3 ms."""
_FLUSH_EVERY = 8 << 20
"""Bytes after which the kernel is told to begin to write to the disk, so that the last fsync finds little to do."""
_WORTH_IT = 0.97
"""A block that compresses to more of its size than this is stored raw, and read without decompression."""
_SUMMED_LEAST = 64 << 10
"""A raw block of chunks that is at least as long gets sums, and is read in parts. A shorter one is soon read whole."""

_local = threading.local()


class _Pending:
    """A block being filled."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        self.names: list[bytes] = []
        self.parts: list[bytes | memoryview] = []
        self.length = 0

    def take(self, name: bytes, data: bytes | memoryview) -> None:
        self.names.append(name)
        self.parts.append(data)
        self.length += len(data)


class LayerWriter:
    """Collects objects and writes them as one layer. Use once; close() without publish() leaves nothing behind."""

    def __init__(self, directory: Path, compression: Compression = FAST, threads: int | None = None) -> None:
        self._directory = directory
        self._compression = compression
        self._targets = compression.targets
        self._threads = threads or os.cpu_count() or 1
        self._pending = {kind: _Pending(kind) for kind in KINDS}
        self._job: list[_Pending] = []
        self._job_bytes = 0
        self._queue: deque[Future[None]] = deque()
        self._pool: ThreadPoolExecutor | None = None
        self._scribe: ThreadPoolExecutor | None = None
        self._unflushed = 0
        self._blocks: list[Block] = []
        self._digests: list[bytes] = []
        self._lengths: list[int] = []
        self._hash = blake3()
        self._fd = -1
        self._path = directory / f"{INCOMING}{os.urandom(8).hex()}"
        self._name: LayerId | None = None
        self._offset = 0
        self._submitted = 0
        self.objects = 0

    def add(self, kind: int, digest: bytes, data: bytes | memoryview) -> None:
        """Take an object. A large one is a block of its own; small ones share a block with their neighbours."""
        target = self._targets[kind]
        if len(data) > target // 2:
            alone = _Pending(kind)
            alone.take(digest, data)
            self._submit(alone)
        else:
            pending = self._pending[kind]
            pending.take(digest, data)
            if pending.length >= target:
                self._close_block(kind)
        self.objects += 1

    def add_block(self, block: Block, stored: bytes, digests: list[bytes], lengths: list[int]) -> None:
        """Take a whole block of another layer as it is; its offset is not looked at. Sums are made anew: those of the
        other layer may be damaged, and would not be found to be in this one."""
        self._start_job()
        if block.codec == CODEC_SUMMED:
            block = replace(block, sums=sums_of(stored, PIECE))
        if self._scribe is None:
            self._append(block, stored, digests, lengths)
        else:
            self._queue.append(self._scribe.submit(self._append, block, stored, digests, lengths))
            self._wait_for_room()
        self.objects += len(digests)

    def complete(self) -> tuple[LayerId, int]:
        """Write what is left and sync the file; only its name is missing. Returns the name and the size in bytes."""
        for kind in KINDS:
            self._close_block(kind)
        self._start_job()
        while self._queue:
            self._queue.popleft().result()
        if self._fd < 0:
            self._open()
        self._write(encode_footer(self._blocks, self._digests, self._lengths))
        self._stop_threads()
        os.fsync(self._fd)
        self._name = LayerId(self._hash.digest())
        return self._name, self._offset

    def publish(self) -> None:
        """Give the complete file its name. Durable when its directory has been synced."""
        assert self._name is not None
        self._path.rename(self._directory / (self._name.hex() + SUFFIX))
        os.close(self._fd)
        self._fd = -1

    def finish(self) -> tuple[LayerId, int]:
        """Make the layer durable under its name. Returns the name and the file's size in bytes."""
        completed = self.complete()
        self.publish()
        sync_directory(self._directory)
        return completed

    def close(self) -> None:
        """Drop what was not finished."""
        self._stop_threads()
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            os.close(self._fd)
            self._fd = -1

    def contents(self) -> tuple[list[Block], list[bytes], list[int]]:
        """The tables of the layer, after finish(): blocks, digests, lengths."""
        return self._blocks, self._digests, self._lengths

    def _close_block(self, kind: int) -> None:
        pending = self._pending[kind]
        if pending.parts:
            self._pending[kind] = _Pending(kind)
            self._submit(pending)

    def _submit(self, pending: _Pending) -> None:
        self._submitted += pending.length
        if self._submitted <= _WITHOUT_THREADS:
            self._write_blocks([pending], lambda: _compress([pending], self._compression))
            return
        self._job.append(pending)
        self._job_bytes += pending.length
        if self._job_bytes >= _JOB:
            self._start_job()

    def _start_job(self) -> None:
        """Have the blocks that were closed compressed and written."""
        if not self._job:
            return
        if self._pool is None or self._scribe is None:
            from concurrent.futures import ThreadPoolExecutor  # 5 ms, and most commits never need it

            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="compress")
            self._scribe = ThreadPoolExecutor(1, thread_name_prefix="write")
        job, self._job, self._job_bytes = self._job, [], 0
        compressed = self._pool.submit(_compress, job, self._compression)
        self._queue.append(self._scribe.submit(self._write_blocks, job, compressed.result))
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        while len(self._queue) > _QUEUED_JOBS or (self._queue and self._queue[0].done()):
            self._queue.popleft().result()

    def _write_blocks(self, job: list[_Pending], compressed: Callable[[], list[_Compressed]]) -> None:
        """In the writing thread, which alone touches the file and the tables until complete() has waited for it."""
        for pending, (codec, stored, sums) in zip(job, compressed(), strict=True):
            block = Block(0, len(stored), pending.length, len(pending.names), codec, pending.kind, sums)
            self._append(block, stored, pending.names, list(map(len, pending.parts)))

    def _append(self, block: Block, stored: bytes | memoryview, digests: list[bytes], lengths: list[int]) -> None:
        if self._fd < 0:
            self._open()
        self._blocks.append(replace(block, offset=self._offset))
        self._write(stored)
        self._digests += digests
        self._lengths += lengths
        self._flush_behind(len(stored))

    def _open(self) -> None:
        while self._fd < 0:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                self._fd = fd
            else:  # between open and flock another process took it for abandoned, and removed it
                os.close(fd)
        self._write(header())
        assert self._offset == HEADER.size

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(data)
        self._offset += len(data)

    def _flush_behind(self, written: int) -> None:
        self._unflushed += written
        if self._unflushed >= _FLUSH_EVERY:
            begin_to_flush(self._fd)
            self._unflushed = 0

    def _stop_threads(self) -> None:
        for threads in (self._scribe, self._pool):
            if threads is not None:
                threads.shutdown(cancel_futures=True)
        self._scribe = self._pool = None


class _Compressed(NamedTuple):
    codec: int
    stored: bytes | memoryview
    sums: bytes


def _compress(blocks: list[_Pending], compression: Compression) -> list[_Compressed]:
    compressors: dict[Compression, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if compression not in compressors:
        compressors[compression] = compression.compressor()
    compressor = compressors[compression]
    try:
        return [_compressed(compressor, block) for block in blocks]
    except zstandard.ZstdError as error:
        raise_shortage(error)
        raise


def _compressed(compressor: zstandard.ZstdCompressor, block: _Pending) -> _Compressed:
    data = block.parts[0] if len(block.parts) == 1 else b"".join(block.parts)
    stored = compressor.compress(data)
    if len(stored) < len(data) * _WORTH_IT:
        return _Compressed(CODEC_ZSTD, stored, b"")
    if block.kind == KIND_CHUNKS and len(data) >= _SUMMED_LEAST:
        return _Compressed(CODEC_SUMMED, data, sums_of(data, PIECE))
    return _Compressed(CODEC_RAW, data, b"")


def remove_abandoned(directory: Path) -> list[Path]:
    """Remove what writers that died left behind: incoming files that no living process holds locked."""
    removed = []
    for path in directory.glob(INCOMING + "*"):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            removed.append(path)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
    return removed
