"""A directory, a file or a stream -> the image that is in it, or what is left to read of a root filesystem's archive.

What it is, its content tells and not its name: an OCI layout (a directory, or an archive of one), an archive of
`docker save` or `podman save`, or neither. An archive that is compressed, or cannot be sought, has to be read twice: it
goes into a file without a name in the store's caches, decompressed. Any other is read where it is.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runtime.images.archive import ArchiveFiles, Opened, Piece, is_image, looks_like_image
from runtime.images.choosing import Wish
from runtime.images.image import Image, image_in_archive, images_in_layout
from runtime.images.layout import Layout


def is_layout(path: Path) -> bool:
    """Whether a directory is an OCI image layout."""
    return (path / "oci-layout").is_file() and (path / "index.json").is_file()


def images_in_directory(path: Path, wish: Wish) -> tuple[Image, ...]:
    """The image of a layout, or one for each platform if that is wished. BadInput, NotFound."""
    return images_in_layout(Layout(path), wish)


@contextlib.contextmanager
def images_or_archive(source: BinaryIO, name: str, spool: Path, wish: Wish) -> Iterator[tuple[Image, ...] | Opened]:
    """The image in an open file, or one for each platform; or, if it has none, all of its content, decompressed.
    BadInput, NotFound.

    `spool` is a directory for what has to be read twice.
    """
    opened = Opened(source)
    if not looks_like_image(opened.head):
        yield opened
        return
    file = -1
    try:
        if _is_in_place(source, opened):
            files = ArchiveFiles(source.fileno(), name)
        else:
            file = opened.spooled(spool)
            files = ArchiveFiles(file, name)
        if not is_image(files):
            at = source.fileno() if file < 0 else file
            yield Opened(Piece(at, 0, os.fstat(at).st_size))
        elif "manifest.json" in files:
            yield (image_in_archive(files, wish),)
        else:
            yield images_in_layout(Layout(Path(name), files), wish)
    finally:
        if file >= 0:
            os.close(file)


def _is_in_place(source: BinaryIO, opened: Opened) -> bool:
    """Whether a source is a file that can be read anywhere, and is not compressed."""
    with contextlib.suppress(OSError, ValueError):
        file = source.fileno()
        size = len(opened.head)
        return stat.S_ISREG(os.fstat(file).st_mode) and os.pread(file, size, 0) == opened.head
    return False
