"""Images by hand: OCI layouts, and archives as `docker save` writes them. Knows nothing of how Treering reads them."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files: Mapping[str, str | None]) -> bytes:
    """Files by their names; None is a directory."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            data = (text or "").encode()
            if text is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@dataclass
class MadeImage:
    """An image that is being made up: whatever is wrong with it is so on purpose."""

    layers: Sequence[bytes]
    """Uncompressed."""
    history: list[dict[str, Any]] = field(default_factory=list)
    section: dict[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"
    more: dict[str, Any] = field(default_factory=dict)
    """Further members of the config."""

    def config(self) -> bytes:
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "created": "2024-05-06T07:08:09.123456789Z",
            "config": self.section,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]},
            "history": self.history,
            **self.more,
        }
        return json.dumps(document).encode()


class LayoutMaker:
    """An OCI layout, file by file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.named: list[dict[str, Any]] = []

    def blob(self, data: bytes, kind: str, **more: Any) -> dict[str, Any]:
        (self.path / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        return {"mediaType": kind, "digest": digest(data), "size": len(data), **more}

    def image(
        self, image: MadeImage, packed: Callable[[bytes], bytes] = gzip.compress, kind: str = f"{LAYER}+gzip"
    ) -> dict[str, Any]:
        """An image's manifest, named by what is returned."""
        return self.manifest(self.blob(image.config(), CONFIG), [self.blob(packed(one), kind) for one in image.layers])

    def manifest(self, config: dict[str, Any], layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        return self.blob(json.dumps(document).encode(), MANIFEST)

    def index(self, *manifests: dict[str, Any]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.blob(json.dumps(document).encode(), INDEX)

    def name(self, manifest: dict[str, Any], tag: str | None = None, **more: Any) -> Path:
        """Have index.json name it, beside what it names already."""
        named = {**manifest, **more}
        if tag is not None:
            named["annotations"] = {"org.opencontainers.image.ref.name": tag}
        self.named.append(named)
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": self.named}))
        return self.path


def docker_archive(path: Path, images: Mapping[str, MadeImage]) -> Path:
    """What `docker save` writes: the second of two equal layers links to the first, manifest.json is last."""
    told = []
    seen: dict[str, str] = {}
    with tarfile.open(path, "w") as archive:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for name, image in images.items():
            config = f"{digest(image.config())[7:]}.json"
            add(config, image.config())
            paths = []
            for number, layer in enumerate(image.layers):
                at = f"{digest(f'{name} {number}'.encode())[7:]}/layer.tar"
                paths.append(at)
                if digest(layer) in seen:
                    link = tarfile.TarInfo(at)
                    link.type, link.linkname = tarfile.SYMTYPE, f"../{seen[digest(layer)]}"
                    archive.addfile(link)
                else:
                    add(at, layer)
                    seen[digest(layer)] = at
            told.append({"Config": config, "RepoTags": [name], "Layers": paths})
        add("manifest.json", json.dumps(told).encode())
    return path


def packed_directory(directory: Path, path: Path) -> Path:
    """A layout as an archive."""
    with tarfile.open(path, "w") as archive:
        for name in ("oci-layout", "index.json", "blobs"):
            archive.add(directory / name, name)
    return path
