"""The documents of an image, as values: descriptors, manifests, indexes and configs."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from vcs.errors import BadInput

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP, LAYER_ZSTD = f"{LAYER}+gzip", f"{LAYER}+zstd"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER, DOCKER_LAYER_GZIP = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)

INDEXES = (INDEX, DOCKER_LIST)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
CONFIGS = (CONFIG, DOCKER_CONFIG)
LAYERS = (LAYER, LAYER_GZIP, LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP)

DOCUMENT_MAX = 4 << 20
"""Bytes of a manifest, index or config: what registries and other tools take."""
_LAYERS_MAX = 1000
_MEMBERS_MAX = 1000

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an image runs on, in Go's words: `linux`, `amd64`, and `v7` for some."""

    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Names a blob: by its digest, `sha256:` and hexadecimal digits, and its size in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] = {}
    platform: Platform | None = None

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest) or self.size < 0:
            raise ValueError(f"{self.digest!r} of {self.size} bytes names no blob")

    @property
    def algorithm(self) -> str:
        return self.digest.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.digest.partition(":")[2]


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """An image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    """The lowest first."""
    media_type: str = MANIFEST
    annotations: dict[str, str] = {}
    schema_version: int = 2


class Index(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Images, mostly one for each platform, or further indexes."""

    manifests: tuple[Descriptor, ...]
    media_type: str = INDEX
    annotations: dict[str, str] = {}
    schema_version: int = 2


class History(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a layer was made, or, if `empty_layer`, a step that made none."""

    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


class RootFS(msgspec.Struct, frozen=True):
    """The layers' digests before they were compressed."""

    type: str
    diff_ids: tuple[str, ...]


class Config(msgspec.Struct, frozen=True, omit_defaults=True):
    """An image's config, as far as it is understood here. What else it has is in the document."""

    rootfs: RootFS
    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str | None = None
    author: str | None = None
    history: tuple[History, ...] | None = None

    @property
    def platform(self) -> Platform:
        return Platform(self.architecture, self.os, self.variant)


def manifest_or_index(data: bytes, name: str) -> Manifest | Index:
    """The document that `data` is. `name` is what it is called in errors.

    BadInput for what is neither, and for what is both: two programs could take it for two different images
    (CVE-2021-41190).
    """
    fields = fields_of(data, name)
    kind = fields.get("mediaType")
    is_index = "manifests" in fields
    if is_index and ("layers" in fields or "config" in fields):
        raise BadInput(f"{name} is both a manifest and an index", document=name)
    if fields.get("schemaVersion") != 2:
        raise BadInput(f"{name} has schema version {fields.get('schemaVersion')!r}, and not 2", document=name)
    if kind is not None and kind not in (INDEXES if is_index else MANIFESTS):
        raise BadInput(f"{name} says that it is a {kind!r}, which it is not", document=name)
    found: Manifest | Index = _converted(fields, Index if is_index else Manifest, name)
    if len(found.manifests if isinstance(found, Index) else found.layers) > _LAYERS_MAX:
        raise BadInput(f"{name} has more than {_LAYERS_MAX:,} members", document=name)
    return found


def config_of(data: bytes, name: str) -> tuple[Config, dict[str, Any]]:
    """An image config, and all of its document. BadInput."""
    fields = fields_of(data, name)
    config = _converted(fields, Config, name)
    if config.rootfs.type != "layers" or not all(map(_DIGEST.fullmatch, config.rootfs.diff_ids)):
        raise BadInput(f"{name} has no list of layers", document=name)
    if len(config.history or ()) > _MEMBERS_MAX:
        raise BadInput(f"{name} has more than {_MEMBERS_MAX:,} lines of history", document=name)
    return config, fields


def encoded(document: msgspec.Struct | dict[str, Any]) -> bytes:
    """A document's bytes, the same for the same values: no spaces, and the members of a dict sorted."""
    if isinstance(document, Manifest | Index):
        head = {"schemaVersion": document.schema_version, "mediaType": document.media_type}
        return msgspec.json.encode(head | msgspec.to_builtins(document))
    return msgspec.json.encode(document, order="sorted" if isinstance(document, dict) else "deterministic")


def digest_of(data: bytes) -> str:
    """The digest that names bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor_of(data: bytes, media_type: str) -> Descriptor:
    """Names bytes that are at hand."""
    return Descriptor(media_type, digest_of(data), len(data))


def fields_of(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object that a document is. BadInput if it is none, or too large."""
    if len(data) > DOCUMENT_MAX:
        raise BadInput(f"{name} has {len(data):,} bytes, and not {DOCUMENT_MAX:,} at most", document=name)
    try:
        fields = msgspec.json.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: it is no UTF-8
        raise BadInput(f"{name} is not JSON: {error}", document=name) from error
    if not isinstance(fields, dict):
        raise BadInput(f"{name} is not a JSON object", document=name)
    return fields


def _converted(fields: dict[str, Any], kind: type[Any], name: str) -> Any:
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadInput(f"{name} is malformed: {error}", document=name) from error
