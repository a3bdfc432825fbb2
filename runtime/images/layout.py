"""An OCI image layout: a directory of blobs, and an index that names images (image-layout.md)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec

from runtime.images import model
from runtime.images.blobs import Writing, document, writing
from runtime.images.model import Descriptor, Index
from vcs.durable import replace_file, sync_directory
from vcs.errors import BadInput
from vcs.existing import is_there
from vcs.tar.stream import Readable

TAG = "org.opencontainers.image.ref.name"
"""The annotation of a manifest in index.json that says what it is called."""
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
"""There is no such file, nor can there be; ENXIO is said of a socket."""
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class Files(Protocol):
    """Where the files of an image are."""

    def open(self, name: str, /) -> AbstractContextManager[Readable]:
        """A file, by its path. BadInput if it is not there, or not a file."""
        ...


class DirectoryFiles:
    """Files in a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str, /) -> AbstractContextManager[Readable]:
        """A file, by its path below the directory. BadInput if it is not there, or not a file; OSError if it cannot be
        opened for another reason, which says nothing of the image."""
        try:
            # A FIFO or a device in its place would block, or have effects.
            file = os.open(self._path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            raise BadInput(f"{name} is not in {self._path}: {error.strerror}", path=str(self._path)) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BadInput(f"{name} in {self._path} is not a file", path=str(self._path))
        return open(file, "rb", buffering=0)


class Blobs:
    """Content by its digest, where a layout has it."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def open(self, descriptor: Descriptor) -> AbstractContextManager[Readable]:
        """A blob's file, unchecked: see blobs.Checked. BadInput if it is not there."""
        return self._files.open(f"blobs/{descriptor.algorithm}/{descriptor.hex}")

    def document(self, descriptor: Descriptor) -> bytes:
        """All of a small blob, checked."""
        with self.open(descriptor) as file:
            return document(file, descriptor)


class Layout(Blobs):
    """A layout that is there, read."""

    def __init__(self, path: Path, files: Files | None = None) -> None:
        """`files` reads what is in it, if that is no directory. BadInput if it is no layout."""
        super().__init__(files or DirectoryFiles(path))
        self.path = path
        fields = model.fields_of(self._small("oci-layout"), f"{path}/oci-layout")
        if fields.get("imageLayoutVersion") != "1.0.0":
            raise BadInput(f"{path} is an image layout of another version than 1.0.0", path=str(path))
        found = model.manifest_or_index(self._small("index.json"), f"{path}/index.json")
        if not isinstance(found, Index):
            raise BadInput(f"{path}/index.json is not an index", path=str(path))
        self.index = found

    def _small(self, name: str) -> bytes:
        with self._files.open(name) as file:
            return file.read(model.DOCUMENT_MAX + 1) or b""


class LayoutWriter:
    """A layout that is being written, or added to. What is in it already is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        if not is_there(path / "oci-layout"):
            replace_file(path / "oci-layout", _VERSION)

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return is_there(self._blobs / digest.partition(":")[2])

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writing]:
        """Write a blob; see blobs.writing."""
        with writing(self._blobs) as blob:
            yield blob

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Write a small blob."""
        with self.writing() as blob:
            blob.write(data)
        return Descriptor(media_type, blob.digest, blob.size)

    def name(self, manifest: Descriptor, tags: Mapping[str, Mapping[str, str]]) -> None:
        """Have tags name a manifest or index, each with further annotations; other tags stay. Durable, with all blobs.

        BadInput if the index that is there cannot be read.
        """
        sync_directory(self._blobs)
        kept: tuple[Descriptor, ...] = ()
        if is_there(self.path / "index.json"):
            kept = Layout(self.path).index.manifests
        kept = tuple(one for one in kept if not _is_replaced(one, manifest, tags))
        named = tuple(
            msgspec.structs.replace(manifest, annotations={**more, TAG: tag} if tag else {**more})
            for tag, more in tags.items()
        )
        replace_file(self.path / "index.json", model.encoded(Index((*kept, *named))))


def _is_replaced(one: Descriptor, manifest: Descriptor, tags: Mapping[str, object]) -> bool:
    tag = one.annotations.get(TAG, "")
    return tag in tags or (not tag and one.digest == manifest.digest)
