"""Images: their documents, the archives that they come in, and what a config makes of a container."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec

from runtime import imageconfig
from runtime.imagechange import image_change
from runtime.images import model
from runtime.images.archive import ArchiveFiles, is_image, looks_like_image
from runtime.images.choosing import Wish
from runtime.images.image import Image, image_in_archive, images_in_layout
from runtime.images.layout import Layout
from runtime.images.steps import flat_step, steps_of
from runtime.settings import Settings
from tests.fuzz.archives import summed
from tests.fuzz.target import Target
from tests.support.images import CONFIG, INDEX, LAYER, MANIFEST, MadeImage, digest
from tests.support.raw_tar import END, padded
from vcs.errors import TreeringError

_HISTORY: list[dict[str, Any]] = [
    {"created": "2024-05-06T07:08:09Z", "created_by": "/bin/sh -c #(nop)  CMD [\"bash\"]", "empty_layer": True},
    {"created_by": "|1 V=2 /bin/sh -c make $V # buildkit", "author": "A <a@b>", "comment": "c"},
]  # fmt: skip
_SECTION: dict[str, Any] = {
    "Env": ["A=b"], "Cmd": ["sh"], "Entrypoint": None, "User": "1:2", "WorkingDir": "/w", "StopSignal": "SIGRTMIN+3",
    "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5000000000, "Retries": 3},
}  # fmt: skip


def _config_bytes() -> bytes:
    return MadeImage([b"layer"], _HISTORY, _SECTION).config()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def _manifest() -> bytes:
    document = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": _descriptor(CONFIG, _config_bytes()),
        "layers": [_descriptor(LAYER, b"layer")], "annotations": {"a": "b"},
    }  # fmt: skip
    return json.dumps(document).encode()


def _index() -> bytes:
    one = _descriptor(MANIFEST, _manifest()) | {"platform": {"os": "linux", "architecture": "amd64", "variant": "v8"}}
    one["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [one]}).encode()


class _OneFile:
    """A layout's files, the same bytes under every name but those that are given. Satisfies layout.Files."""

    def __init__(self, files: dict[str, bytes], rest: bytes) -> None:
        self._files = files
        self._rest = rest

    def open(self, name: str, /) -> io.BytesIO:
        return io.BytesIO(self._files.get(name, self._rest))


def document(data: bytes) -> None:
    found = model.manifest_or_index(data, "document")
    again = model.manifest_or_index(model.encoded(found), "document")
    assert found == again, "it does not come back"


def layout(data: bytes) -> None:
    """An oci-layout file and an index, apart by a NUL; every blob is the index again."""
    head, _, rest = data.partition(b"\0")
    files = {"oci-layout": head, "index.json": rest, f"blobs/sha256/{digest(_config_bytes())[7:]}": _config_bytes()}
    images_in_layout(Layout(Path("layout"), _OneFile(files, _manifest())), Wish())


def config(data: bytes) -> None:
    found, fields = model.config_of(data, "config")
    layers = ()
    image = Image("name", digest(data), found.platform, found, fields, layers)
    steps_of(image)
    flat_step(image)


def run_parameters(data: bytes) -> None:
    """What a container makes of a commit's config.json, which may be any object."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(fields, dict):
        return
    settings = Settings()
    imageconfig.environment(_ASKED, fields, "host", "/root")
    imageconfig.working_directory(_ASKED, fields)
    imageconfig.user(_ASKED, fields)
    imageconfig.labels(settings, fields)
    imageconfig.health(settings, fields)
    imageconfig.exposed_ports(fields)
    for asked in (
        lambda: imageconfig.command(_ASKED, fields),
        lambda: imageconfig.signal_number(imageconfig.stop_signal(settings, fields)),
        lambda: image_change(["CMD x", "ENV a=b", "LABEL c=d", "EXPOSE 80", "VOLUME /v", "WORKDIR w"])(fields),
    ):
        try:
            asked()
        except TreeringError:
            pass


class _Asked(msgspec.Struct):
    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    cwd: str | None = None
    user: str | None = None
    tty: bool = True


_ASKED = _Asked()


def change(data: bytes) -> None:
    image_change(data.decode("utf-8", "surrogateescape").split("\0"))({"config": {"Env": ["A=b"], "WorkingDir": "/"}})


def _saved() -> list[bytes]:
    config = _config_bytes()
    name = f"{digest(config)[7:]}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["a:latest"], "Layers": ["l/layer.tar"]}]).encode()
    return [
        _tarred({"manifest.json": manifest, name: config, "l/layer.tar": b"layer"}),
        _tarred({
            "oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": _index(),
            f"blobs/sha256/{digest(_manifest())[7:]}": _manifest(), f"blobs/sha256/{digest(config)[7:]}": config,
        }),
    ]  # fmt: skip


def _tarred(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return padded(out.getvalue().rstrip(b"\0")) + END


def archive(data: bytes) -> None:
    data = summed(data)
    looks_like_image(data)
    file = os.memfd_create("archive", os.MFD_CLOEXEC)
    try:
        os.pwrite(file, data, 0)
        files = ArchiveFiles(file, "archive")
        if not is_image(files):
            return
        if "manifest.json" in files:
            image = image_in_archive(files, Wish())
        else:
            (image,) = images_in_layout(Layout(Path("archive"), files), Wish())
        steps_of(image)
        for one in image.layers:
            with one.open() as stream:
                while stream.read(1 << 16):
                    pass
    finally:
        os.close(file)


_KEYS = (
    b'"schemaVersion":2', b'"mediaType":"', b'"layers":[', b'"manifests":[', b'"config":', b'"digest":"sha256:', b'"size":',
    b'"rootfs":{"type":"layers","diff_ids":[', b'"history":[', b'"created_by":"', b'"empty_layer":true', b"null", b"[[[[",
    b'{"a":', b"1e999", b"-1", b"99999999999999999999", b"\\ud800", b'"Healthcheck":', b'"StopSignal":"', b'"Labels":',
)  # fmt: skip
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}\0'

TARGETS = (
    Target("image-document", document, lambda: [_manifest(), _index()], _KEYS),
    Target("image-layout", layout, lambda: [_LAYOUT + _index()], _KEYS),
    Target(
        "image-config", config,
        lambda: [MadeImage([], _HISTORY[:1], _SECTION).config(), MadeImage([b"1"], _HISTORY, {}).config()], _KEYS,
    ),
    Target("run-parameters", run_parameters, lambda: [_config_bytes(), json.dumps(_SECTION).encode()], _KEYS),
    Target(
        "image-change", change,
        lambda: [b'CMD ["a"]\0ENV a=b c="d e"\0HEALTHCHECK --interval=1m30s CMD x', b"EXPOSE 80-90/udp\0VOLUME /a /b\0WORKDIR x"],
        (b"ENTRYPOINT ", b"LABEL ", b"STOPSIGNAL ", b"--retries=", b"HEALTHCHECK NONE"),
    ),
    Target("image-archive", archive, _saved, _KEYS),
)  # fmt: skip
