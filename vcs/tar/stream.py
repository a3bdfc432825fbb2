"""Bytes in order from something that cannot seek, and where in it we are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from vcs.errors import BadInput

_READ = 1 << 20


class Readable(Protocol):
    """A binary stream. `read` may return fewer bytes than asked; none at the end."""

    def read(self, size: int, /) -> bytes | None: ...


@runtime_checkable
class Skipping(Protocol):
    """A stream that can pass over bytes without reading them."""

    def skip(self, size: int, /) -> int:
        """Pass over at most `size` bytes; returns how many there were."""
        ...


class Stream:
    """A binary stream with a position. Running out of bytes is BadInput, and so is a stream that cannot be read."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._buffer = b""
        self._used = 0
        self._start = 0

    @property
    def offset(self) -> int:
        """How many bytes have been taken."""
        return self._start + self._used

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Meant for sizes of a few MiB at most: they are held at once."""
        end = self._used + size
        if end > len(self._buffer):
            self._fill(size)
            end = self._used + size
            if end > len(self._buffer):
                raise self._truncated()
        data = self._buffer[self._used : end]
        self._used = end
        return data

    def peek(self, size: int) -> bytes:
        """The next `size` bytes without taking them; fewer at the end of the stream."""
        if self._used + size > len(self._buffer):
            self._fill(size)
        return self._buffer[self._used : self._used + size]

    def pieces(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces."""
        while size:
            piece = self.peek(1) and self._buffer[self._used : self._used + size]
            if not piece:
                raise self._truncated()
            self._used += len(piece)
            size -= len(piece)
            yield piece

    def skip(self, size: int) -> None:
        """Drop the next `size` bytes."""
        held = len(self._buffer) - self._used
        if size > held and isinstance(self._source, Skipping):
            self._start += len(self._buffer)
            self._used, self._buffer = 0, b""
            passed = self._source.skip(size - held)
            self._start += passed
            if passed < size - held:
                raise self._truncated()
            return
        for _ in self.pieces(size):
            pass

    def drain(self) -> None:
        """Read to the end, so that whoever writes the stream can finish."""
        self._start += len(self._buffer)
        self._used = 0
        self._buffer = b""
        while data := self._read():
            self._start += len(data)

    def _fill(self, size: int) -> None:
        """Have at least `size` bytes in the buffer, if the stream has them."""
        rest = self._buffer[self._used :]
        self._start += self._used
        self._used = 0
        parts = [rest]
        have = len(rest)
        while have < size and (data := self._read()):
            parts.append(data)
            have += len(data)
        self._buffer = b"".join(parts) if len(parts) != 2 or rest else parts[1]

    def _read(self) -> bytes:
        try:
            data = self._source.read(_READ)
        except OSError as error:
            raise BadInput(f"the archive cannot be read: {error}", offset=self.offset) from error
        if data is None:
            raise BadInput("the archive cannot be read: its stream does not block", offset=self.offset)
        return data

    def _truncated(self) -> BadInput:
        end = self._start + len(self._buffer)
        return BadInput(f"the archive is truncated: it ends at byte {end}", offset=end)
