"""An OCI image layout: a directory of blobs, and an index that names images (image-layout.md)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from runtime.images import model
from runtime.images.blobs import Writing, writing
from runtime.images.model import Descriptor, Index
from vcs.durable import replace_file, sync_directory
from vcs.errors import BadInput

TAG = "org.opencontainers.image.ref.name"
"""The annotation of a manifest in index.json that says what it is called."""
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'


class Layout:
    """A layout that is there, read."""

    def __init__(self, path: Path) -> None:
        """BadInput if it is none."""
        self.path = path
        try:
            fields = msgspec.json.decode(self._small("oci-layout"))
        except msgspec.DecodeError as error:
            raise BadInput(f"{path}/oci-layout is not JSON: {error}", path=str(path)) from error
        if not isinstance(fields, dict) or fields.get("imageLayoutVersion") != "1.0.0":
            raise BadInput(f"{path} is an image layout of another version than 1.0.0", path=str(path))
        found = model.manifest_or_index(self._small("index.json"), f"{path}/index.json")
        if not isinstance(found, Index):
            raise BadInput(f"{path}/index.json is not an index", path=str(path))
        self.index = found

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A blob's file, unchecked: see blobs.Checked. BadInput if it is not there."""
        return self._open(Path("blobs", descriptor.algorithm, descriptor.hex), f"blob {descriptor.digest}")

    def _small(self, name: str) -> bytes:
        with self._open(Path(name), name) as file:
            return file.read(model.DOCUMENT_MAX + 1)

    def _open(self, path: Path, name: str) -> BinaryIO:
        try:
            # A FIFO or a device in its place would block, or have effects.
            file = os.open(self.path / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise BadInput(f"{name} is not in {self.path}: {error.strerror}", path=str(self.path)) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise BadInput(f"{name} in {self.path} is not a file", path=str(self.path))
        return open(file, "rb")


class LayoutWriter:
    """A layout that is being written, or added to. What is in it already is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)
        if not (path / "oci-layout").exists():
            replace_file(path / "oci-layout", _VERSION)

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return (self._blobs / digest.partition(":")[2]).exists()

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
        if (self.path / "index.json").exists():
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
