"""A compressed stream -> its content, while it is read: gzip, bzip2, xz and zstd, told apart by their first bytes.

Anything else passes unchanged. What comes out is bounded at every step, whatever goes in: at most as much as is asked
for is held, a decoder's window is limited, and a stream that grows beyond all measure is refused (a "bomb").
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vcs.errors import BadInput
from vcs.shortage import raise_shortage
from vcs.tar.stream import Readable

WINDOW_MAX = 128 << 20
"""The largest zstd window, in bytes: what `zstd --long=27` needs, and `zstd -d` allows unasked."""
XZ_MEMORY_MAX = 192 << 20
"""What an xz decoder may use; `xz -9e` needs 65 MiB, and a dictionary of 128 MiB fits."""

_READ = 128 << 10
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still taken for an honest archive. Past `free` bytes of output, no more than `ratio` to one of input."""

    free: int = 1 << 30
    ratio: int = 1000


class _Decoder(Protocol):
    """What bz2 and lzma offer."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decoder with the interface of the others."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._filled = False

    @property
    def eof(self) -> bool:
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflate.unconsumed_tail and not self._filled

    @property
    def unused_data(self) -> bytes:
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        out = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self._filled = len(out) == max_length  # then there may be more of the same input
        return out


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_MAX)


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    magic: bytes
    open: Callable[[], _Decoder]


_FORMATS = (
    _Format("gzip", b"\x1f\x8b", _Gzip),
    _Format("bzip2", b"BZh", bz2.BZ2Decompressor),
    _Format("xz", b"\xfd7zXZ\0", _xz),
)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""The end of a skippable frame's magic, whose first byte is 0x50 to 0x5f (RFC 8878, 3.1.2); pzstd begins with one."""
_MAGIC_MAX = 6


class _Input:
    """The source with its first bytes looked at, and all of them counted."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._held = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        while len(self._held) < size and (data := self._pull(_READ)):
            self._held += data
        return self._held[:size]

    def read(self, size: int, /) -> bytes:
        if self._held:
            data, self._held = self._held[:size], self._held[size:]
        else:
            data = self._pull(size)
        self.count += len(data)
        return data

    def _pull(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except OSError as error:
            raise BadInput(f"the archive cannot be read: {error}") from error
        if data is None:
            raise BadInput("the archive cannot be read: its stream does not block")
        return data


class _Budget:
    """Counts output against input."""

    def __init__(self, source: _Input, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._output = 0

    def spend(self, data: bytes) -> bytes:
        self._output += len(data)
        if self._output > self._limits.free and self._output > self._limits.ratio * self._source.count:
            raise BadInput(
                f"the archive expands beyond {self._limits.ratio}:1 ({self._output} bytes from {self._source.count})"
            )
        return data


class _Decompressed:
    """One or more streams of a format, one after the other; NULs may follow them."""

    def __init__(self, source: _Input, form: _Format, budget: _Budget) -> None:
        self._source = source
        self._format = form
        self._budget = budget
        self._decoder = form.open()
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        try:
            return self._budget.spend(self._read(min(size, _PIECE)))
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise_shortage(error)
            raise BadInput(f"its {self._format.name} stream is damaged: {error}") from error

    def _read(self, size: int) -> bytes:
        while True:
            if self._decoder.eof and not self._next_stream():
                return b""
            data = b""
            if self._decoder.needs_input:
                data, self._rest = self._rest or self._source.read(_READ), b""
                if not data:
                    raise BadInput(f"its {self._format.name} stream is truncated")
            out = self._decoder.decompress(data, size)
            if out:
                return out

    def _next_stream(self) -> bool:
        """Open the stream that follows the one that ended; False if nothing does."""
        rest = self._decoder.unused_data.lstrip(b"\0")
        while len(rest) < len(self._format.magic) and (data := self._source.read(_READ)):
            rest = (rest + data).lstrip(b"\0")
        if not rest:
            return False
        if not rest.startswith(self._format.magic):
            raise BadInput(f"something else follows its {self._format.name} stream")
        self._decoder = self._format.open()
        self._rest = rest
        return True


class _Zstd:
    """Any number of zstd frames."""

    def __init__(self, source: _Input, budget: _Budget) -> None:
        import zstandard  # 12 ms, and most archives need it never

        self._error = zstandard.ZstdError
        decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX)
        self._reader = decoder.stream_reader(
            source,  # type: ignore[arg-type]  # read() is all that it calls
            read_size=_READ,
            read_across_frames=True,
            closefd=False,
        )
        self._budget = budget

    def read(self, size: int, /) -> bytes:
        try:
            # At a truncated frame this just ends: the archive inside then lacks its own end.
            return self._budget.spend(self._reader.read(min(size, _PIECE)))
        except self._error as error:
            raise_shortage(error)
            raise BadInput(f"its zstd stream is damaged: {error}") from error


def decompressed(source: Readable, limits: Limits | None = None) -> Readable:
    """The stream's content, decompressed if its first bytes are those of a known format. Never seeks.

    What it returns raises BadInput when read if the stream is damaged, truncated, or a bomb by the `limits`.
    """
    stream = _Input(source)
    start = stream.peek(_MAGIC_MAX)
    budget = _Budget(stream, limits or Limits())
    if start.startswith(_ZSTD_MAGIC) or (start[1:4] == _ZSTD_SKIPPABLE and start[0] >> 4 == 5):
        return _Zstd(stream, budget)
    for form in _FORMATS:
        if start.startswith(form.magic):
            return _Decompressed(stream, form, budget)
    return stream
