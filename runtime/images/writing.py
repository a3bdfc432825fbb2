"""An image that was made -> a layout, or an archive of either kind.

    layout            a directory; what is in it already is kept
    oci_archive       the same as a tar archive
    docker_archive    manifest.json, a config and layers: what `docker load` and `podman load` have always taken

An archive's members have no time and no owner, so the same image is the same archive.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from runtime.images import model
from runtime.images.composing import Composed, MadeImage
from runtime.images.layout import TAG, LayoutWriter
from runtime.images.made import Made
from runtime.images.model import Descriptor, Index
from runtime.images.references import Reference
from vcs.store import translated
from vcs.tar.writer import TarWriter, Writable

NAME = "io.containerd.image.name"
"""The annotation beside the tag that has an image's whole name: containerd's, which Docker and Podman read too."""
_PIECE = 1 << 20
_FILE = stat.S_IFREG | 0o644
_DIRECTORY = stat.S_IFDIR | 0o755


def write_layout(made: Made, composed: Composed, names: Sequence[Reference], path: Path) -> None:
    """Add an image to a layout, which is made if it is not there. Durable. Denied, NoSpace, BadInput for a layout that
    cannot be read."""
    with translated(f"{path} cannot be written"):
        layout = LayoutWriter(path)
        for blob in _blobs(composed):
            if not layout.has(blob.digest):
                with made.open(blob) as source, layout.writing() as target:
                    while piece := source.read(_PIECE):
                        target.write(piece)
        layout.name(composed.top, {name.short: _annotations(name) for name in names})


def write_oci_archive(made: Made, composed: Composed, names: Sequence[Reference], out: Writable) -> None:
    """Write a layout as an archive; `out` is never sought, nor closed. OSError as `out` raises it."""
    named = [
        msgspec.structs.replace(composed.top, annotations={**_annotations(name), TAG: name.short}) for name in names
    ]
    archive = _Archive(made, out)
    archive.directory("blobs/")
    archive.directory("blobs/sha256/")
    for blob in _blobs(composed):
        archive.blob(f"blobs/sha256/{blob.hex}", blob)
    archive.small("index.json", model.encoded(Index(tuple(named))))
    archive.small("oci-layout", made.marker)
    archive.close()


def write_docker_archive(made: Made, image: MadeImage, names: Sequence[Reference], out: Writable) -> None:
    """Write an archive as `docker save` does; `out` is never sought, nor closed. OSError as `out` raises it."""
    archive = _Archive(made, out)
    for layer in {layer.hex: layer for layer in image.layers}.values():
        archive.blob(_layer(layer), layer)
    archive.blob(f"{image.config.hex}.json", image.config)
    entry = {
        "Config": f"{image.config.hex}.json",
        "RepoTags": [str(name) for name in names if name.name],
        "Layers": [_layer(layer) for layer in image.layers],
    }
    archive.small("manifest.json", msgspec.json.encode([entry]))
    archive.close()


def _layer(layer: Descriptor) -> str:
    return f"{layer.hex}.tar"


def _blobs(composed: Composed) -> list[Descriptor]:
    """Each once: two commits may have made the same change."""
    blobs = [blob for image in composed.images for blob in (*image.layers, image.config, image.manifest)]
    return [*{blob.digest: blob for blob in (*blobs, composed.top)}.values()]


def _annotations(name: Reference) -> dict[str, str]:
    return {NAME: str(name)} if name.name else {}


class _Archive:
    def __init__(self, made: Made, out: Writable) -> None:
        self._made = made
        self._writer = TarWriter(out)

    def directory(self, name: str) -> None:
        self._writer.add(name.encode(), _DIRECTORY, 0, 0, 0)

    def blob(self, name: str, blob: Descriptor) -> None:
        self._writer.add(name.encode(), _FILE, 0, 0, 0, size=blob.size)
        with self._made.open(blob) as file:
            while piece := file.read(_PIECE):
                self._writer.feed(piece)
        self._writer.end()

    def small(self, name: str, data: bytes) -> None:
        self._writer.add(name.encode(), _FILE, 0, 0, 0, size=len(data))
        self._writer.feed(data)
        self._writer.end()

    def close(self) -> None:
        self._writer.close()
