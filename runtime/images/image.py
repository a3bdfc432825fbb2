"""An image that can be read, wherever it is: its config, and its layers one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from runtime.images import model
from runtime.images.archive import ArchiveFiles
from runtime.images.blobs import Checked
from runtime.images.choosing import Wish, chosen, without_default
from runtime.images.layout import Blobs, Layout
from runtime.images.model import Config, Manifest, Platform
from vcs.errors import BadInput, NotFound
from vcs.tar.stream import Readable


@dataclass(frozen=True, slots=True)
class ImageLayer:
    """A layer: what it is called uncompressed, its bytes as they are stored, and how to read these."""

    diff_id: str
    size: int
    open: Callable[[], AbstractContextManager[Readable]]
    """It may be compressed. If the image says what these bytes are, reading more than that is BadInput."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform."""

    name: str
    """What it is called where it was found; empty if it has no name there."""
    id: str
    """The digest of its config: what `docker images` shows."""
    platform: Platform
    """What it is for: as an index says, or else its config."""
    config: Config
    document: dict[str, Any]
    """All of the config."""
    layers: tuple[ImageLayer, ...]
    """The lowest first."""


class _Saved(msgspec.Struct, frozen=True, rename="pascal"):
    """An image in the manifest.json of an archive that `docker save` wrote."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def images_in_layout(layout: Layout, wish: Wish) -> tuple[Image, ...]:
    """The image of a layout that is wished for, or one for each platform. BadInput for what is wrong, NotFound for what
    is not there."""
    descriptors, name = chosen(layout, wish)
    return tuple(_image_in_layout(layout, descriptor, name) for descriptor in descriptors)


def _image_in_layout(layout: Layout, descriptor: model.Descriptor, name: str) -> Image:
    document = f"manifest {descriptor.digest}"
    manifest = model.manifest_or_index(layout.document(descriptor), document)
    if not isinstance(manifest, Manifest):
        raise BadInput(f"{document} is an index", document=document)
    image = image_of(layout, manifest, name, document)
    return replace(image, platform=descriptor.platform or image.platform)


def image_of(blobs: Blobs, manifest: Manifest, name: str, document: str) -> Image:
    """The image of a manifest. BadInput."""
    if manifest.config.media_type not in model.CONFIGS:
        raise BadInput(f"{document} is of a {manifest.config.media_type!r}, which is no image", document=document)
    for layer in manifest.layers:
        if layer.media_type not in model.LAYERS:
            raise BadInput(
                f"{document} has a layer of the type {layer.media_type!r}, which cannot be read: "
                "it is foreign, encrypted or no layer of files",
                document=document,
            )
    data = blobs.document(manifest.config)
    config, fields = _config(data, f"config {manifest.config.digest}", len(manifest.layers))

    def opener(layer: model.Descriptor) -> Callable[[], AbstractContextManager[Readable]]:
        return lambda: _CheckedFile(blobs.open(layer), layer)

    layers = tuple(
        ImageLayer(diff_id, layer.size, opener(layer))
        for diff_id, layer in zip(config.rootfs.diff_ids, manifest.layers, strict=True)
    )
    return Image(name, manifest.config.digest, config.platform, config, fields, layers)


def image_in_archive(files: ArchiveFiles, wish: Wish) -> Image:
    """The image of an archive of `docker save` that is wished for. BadInput, NotFound."""
    name = "manifest.json"
    with files.open(name) as file:
        data = file.read(model.DOCUMENT_MAX + 1) or b""
    saved, called = _wished(_saved(data, name), wish)
    if files.size(saved.config) > model.DOCUMENT_MAX:
        raise BadInput(f"{saved.config} is larger than {model.DOCUMENT_MAX:,} bytes", document=saved.config)
    with files.open(saved.config) as file:
        data = file.read(model.DOCUMENT_MAX) or b""
    identity = model.digest_of(data)
    hexadecimal = saved.config.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
    if len(hexadecimal) == 64 and f"sha256:{hexadecimal}" != identity:
        raise BadInput(f"{saved.config} has other bytes than its name says", document=saved.config)
    config, fields = _config(data, saved.config, len(saved.layers))
    if wish.platform is not None and not wish.platform.fits(config.platform):
        raise without_default(wish, [config.platform])

    def opener(path: str) -> Callable[[], AbstractContextManager[Readable]]:
        return lambda: files.open(path)

    layers = tuple(
        ImageLayer(diff_id, files.size(path), opener(path))
        for diff_id, path in zip(config.rootfs.diff_ids, saved.layers, strict=True)
    )
    return Image(called, identity, config.platform, config, fields, layers)


class _CheckedFile:
    """A blob's file, open for as long as the context lasts, and checked as it is read."""

    def __init__(self, file: AbstractContextManager[Readable], descriptor: model.Descriptor) -> None:
        self._file = file
        self._descriptor = descriptor

    def __enter__(self) -> Checked:
        return Checked(self._file.__enter__(), self._descriptor)

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)


def _config(data: bytes, name: str, layers: int) -> tuple[Config, dict[str, Any]]:
    config, fields = model.config_of(data, name)
    if len(config.rootfs.diff_ids) != layers:
        raise BadInput(
            f"{name} tells of {len(config.rootfs.diff_ids)} layers, and the image has {layers}", document=name
        )
    if config.os not in ("", "linux"):
        raise BadInput(f"the image is for {config.os}: only those for linux can be used", document=name)
    return config, fields


def _saved(data: bytes, name: str) -> tuple[_Saved, ...]:
    if len(data) > model.DOCUMENT_MAX:
        raise BadInput(f"{name} is larger than {model.DOCUMENT_MAX:,} bytes", document=name)
    try:
        found = msgspec.json.decode(data, type=tuple[_Saved, ...])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise BadInput(f"{name} is malformed: {error}", document=name) from error
    if not found:
        raise BadInput(f"{name} names no image", document=name)
    return found


def _wished(images: tuple[_Saved, ...], wish: Wish) -> tuple[_Saved, str]:
    names = [name for image in images for name in image.repo_tags or ()]
    if wish.name is not None:
        for image in images:
            for name in image.repo_tags or ():
                if wish.is_called(name):
                    return image, name
        raise NotFound(f"no image {wish.name!r} in the archive: it has {', '.join(names) or 'none with a name'}")
    if len(images) > 1:
        raise BadInput(
            f"the archive has {len(images)} images: choose one with --image: {', '.join(names)}", images=names
        )
    return images[0], names[0] if names else ""
