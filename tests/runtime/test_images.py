"""The documents and blobs of images: what is honest is read, and whatever else is one BadInput."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images import model
from runtime.images.blobs import Checked, document, writing
from runtime.images.layout import TAG, Layout, LayoutWriter
from runtime.images.model import Config, Descriptor, Index, Manifest
from vcs.errors import BadInput

ONE = {"mediaType": model.CONFIG, "digest": "sha256:" + "0" * 64, "size": 1}
MANIFEST = {"schemaVersion": 2, "mediaType": model.MANIFEST, "config": ONE, "layers": [ONE]}
INDEX = {"schemaVersion": 2, "mediaType": model.INDEX, "manifests": [ONE]}
CONFIG = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [ONE["digest"]]}}


def read(fields: Any) -> Manifest | Index:
    return model.manifest_or_index(json.dumps(fields).encode(), "it")


def test_documents_are_told_apart() -> None:
    assert isinstance(read(MANIFEST), Manifest)
    assert isinstance(read(INDEX), Index)
    assert isinstance(read({**MANIFEST, "mediaType": model.DOCKER_MANIFEST}), Manifest)
    without = {key: value for key, value in MANIFEST.items() if key != "mediaType"}
    assert isinstance(read(without), Manifest)
    config, fields = model.config_of(json.dumps({**CONFIG, "config": {"Env": ["A=b"]}}).encode(), "it")
    assert isinstance(config, Config)
    assert str(config.platform) == "linux/amd64"
    assert fields["config"] == {"Env": ["A=b"]}


@pytest.mark.parametrize(
    "fields",
    [
        {**MANIFEST, "manifests": []},
        {**MANIFEST, "schemaVersion": 1},
        {**MANIFEST, "mediaType": model.INDEX},
        {**MANIFEST, "layers": [{**ONE, "digest": "sha256:../../etc/passwd"}]},
        {**MANIFEST, "layers": [{**ONE, "size": -1}]},
        {**MANIFEST, "layers": [ONE] * 1001},
        {**MANIFEST, "layers": "all"},
        {},
        [],
        "text",
    ],
)
def test_what_is_no_manifest_is_refused(fields: Any) -> None:
    with pytest.raises(BadInput, match="it "):
        read(fields)


def test_what_is_no_json_is_refused() -> None:
    for data in (b"", b"\xff", b"[" * 100_000, b" " * (model.DOCUMENT_MAX + 1)):
        with pytest.raises(BadInput):
            model.manifest_or_index(data, "it")


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    for what in (model.manifest_or_index, model.config_of):
        try:
            what(data, "it")
        except BadInput:
            continue


@given(st.binary(max_size=1000), st.integers(1, 400))
def test_a_blob_is_what_its_descriptor_says(data: bytes, step: int) -> None:
    honest = model.descriptor_of(data, model.LAYER)
    stream = Checked(io.BytesIO(data), honest)
    assert b"".join(iter(lambda: stream.read(step), b"")) == data
    assert document(io.BytesIO(data), honest) == data
    for wrong in (data + b"x", data[:-1], bytes(reversed(data)) if data[::-1] != data else data + b"y"):
        if wrong != data:
            with pytest.raises(BadInput):
                Checked(io.BytesIO(wrong), honest).check()


def test_a_blob_too_large_for_a_document_is_not_read() -> None:
    with pytest.raises(BadInput, match="at most"):
        document(io.BytesIO(), Descriptor(model.CONFIG, str(ONE["digest"]), model.DOCUMENT_MAX + 1))


def test_sha512_is_known() -> None:
    named = Descriptor(model.LAYER, "sha512:" + hashlib.sha512(b"bytes").hexdigest(), 5)
    Checked(io.BytesIO(b"bytes"), named).check()


def test_a_layout_written_and_read(tmp_path: Path) -> None:
    writer = LayoutWriter(tmp_path / "image")
    with writer.writing() as blob:
        blob.write(b"some")
        blob.write(b" layer")
    layer = Descriptor(model.LAYER, blob.digest, blob.size)
    config = writer.put(json.dumps(CONFIG).encode(), model.CONFIG)
    manifest = writer.put(model.encoded(Manifest(config, (layer,))), model.MANIFEST)
    writer.name(manifest, {"one": {"by": "us"}, "two": {}})
    writer.name(writer.put(model.encoded(Manifest(config, ())), model.MANIFEST), {"two": {}})
    layout = Layout(tmp_path / "image")
    first, second = layout.index.manifests
    assert (first.digest, first.annotations) == (manifest.digest, {TAG: "one", "by": "us"})
    assert second.annotations == {TAG: "two"}
    with layout.open(first) as file:
        assert read(json.loads(document(file, first))) == Manifest(config, (layer,))
    assert writer.has(layer.digest)


def test_a_failed_blob_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with writing(tmp_path) as blob:
            blob.write(b"some")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_is_no_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not in"):
        Layout(tmp_path)
    writer = LayoutWriter(tmp_path / "image")
    writer.name(writer.put(b"{}", model.MANIFEST), {"": {}})
    layout = Layout(tmp_path / "image")
    (named,) = layout.index.manifests
    blob = tmp_path / "image" / "blobs" / "sha256" / named.hex
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(BadInput, match="not a file"):
        layout.open(named)
    (tmp_path / "image" / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(BadInput, match="another version"):
        Layout(tmp_path / "image")
