"""Content by its digest: checked as it is read, and written aside until all of it is there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from runtime.images.model import DOCUMENT_MAX, Descriptor
from vcs.errors import BadInput
from vcs.tar.stream import Readable

_PIECE = 1 << 20


class Checked:
    """A blob's stream that is what its descriptor says, or ends in BadInput: at the first byte too many, or at its end.

    What was read before its end is not to be relied on. `check` reads on to the end.
    """

    def __init__(self, source: Readable, descriptor: Descriptor) -> None:
        self._source = source
        self._descriptor = descriptor
        self._sum = hashlib.new(descriptor.algorithm)
        self._left = descriptor.size
        self._is_over = False

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end, once all agrees."""
        if self._is_over or not size:
            return b""
        data = self._source.read(min(size, self._left + 1)) or b""
        self._left -= len(data)
        self._sum.update(data)
        if self._left < 0 or not data:
            self._end()
        return data

    def check(self) -> None:
        """Read what is left, and see that all of it is what was promised."""
        while self.read(_PIECE):
            pass

    def _end(self) -> None:
        name = f"blob {self._descriptor.digest}"
        if self._left < 0:
            raise BadInput(f"{name} is longer than {self._descriptor.size:,} bytes", blob=self._descriptor.digest)
        if self._left:
            raise BadInput(f"{name} ends {self._left:,} bytes too early", blob=self._descriptor.digest)
        if self._sum.hexdigest() != self._descriptor.hex:
            raise BadInput(f"{name} has other bytes than its digest says", blob=self._descriptor.digest)
        self._is_over = True


def document(source: Readable, descriptor: Descriptor) -> bytes:
    """All of a small blob. BadInput, before anything is read, for one that is too large to be a document."""
    if descriptor.size > DOCUMENT_MAX:
        raise BadInput(
            f"blob {descriptor.digest} has {descriptor.size:,} bytes, and not {DOCUMENT_MAX:,} at most",
            blob=descriptor.digest,
        )
    stream = Checked(source, descriptor)
    return b"".join(iter(lambda: stream.read(_PIECE), b""))


class Writing:
    """A blob that is being written: into a file without a name among the others, until `finish`."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes, /) -> int:
        """All of `data`."""
        self._sum.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        return len(data)

    @property
    def digest(self) -> str:
        """Of what was written so far."""
        return f"sha256:{self._sum.hexdigest()}"


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[Writing]:
    """Write a blob into a directory; when the block ends, it is there under its digest, and its bytes are durable (its
    name is when the directory is synced). Nothing is left of it if the block fails; if we are killed, a file whose name
    begins with `.new-`."""
    aside = directory / f".new-{os.urandom(8).hex()}"
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        blob = Writing(file)
        yield blob
        os.fsync(file)
        aside.rename(directory / blob.digest.partition(":")[2])
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
