"""import of images: layouts and archives, which of several, what becomes of their history, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.cli.conftest import Cli, environment
from tests.support import raw_tar
from tests.support.images import (
    CONFIG,
    INDEX,
    LAYER,
    MANIFEST,
    LayoutMaker,
    MadeImage,
    digest,
    docker_archive,
    packed_directory,
    tar,
)

BASE = tar({"etc": None, "etc/os": "base", "etc/gone": "x", "bin": "tools"})
UPPER = tar({"etc": None, "etc/.wh.gone": "", "etc/new": "new"})
HISTORY: list[dict[str, Any]] = [
    {"created": "2020-01-02T03:04:05Z", "created_by": "/bin/sh -c #(nop) ADD file:1 in / ", "author": "Ann <a@b.org>"},
    {"created": "2020-01-02T03:04:06Z", "created_by": "ENV A=1", "empty_layer": True},
    {"created": "2021-01-02T03:04:05.5Z", "created_by": "RUN /bin/sh -c rm etc/gone; echo new > etc/new # buildkit"},
    {"created": "2019-01-02T03:04:05Z", "created_by": 'CMD ["sh"]', "empty_layer": True},
]
IMAGE = MadeImage([BASE, UPPER], HISTORY, {"Env": ["A=1"], "Cmd": ["sh"], "Healthcheck": {"Test": ["NONE"]}})


@pytest.fixture
def store(empty: Cli) -> Cli:
    empty("init")
    return empty


def names(cli: Cli, revision: str) -> list[str]:
    return sorted(line for line in cli.lines("ls", f"{revision}:/etc"))


def layout(path: Path, image: MadeImage = IMAGE, **settings: Any) -> Path:
    made = LayoutMaker(path)
    return made.name(made.image(image, **settings))


def test_each_step_is_a_commit(store: Cli, tmp_path: Path) -> None:
    told = store.json("import", str(layout(tmp_path / "image")))
    assert (told["commits"], told["layers"], told["known"], told["made"]) == (4, 2, 0, True)
    commits = store.json("log", "main")
    titles = [commit["message"].split("\n")[0] for commit in commits]
    assert titles == ['CMD ["sh"]', "RUN rm etc/gone; echo new > etc/new", "ENV A=1", "ADD file:1 in /"]
    assert f"Layer: {digest(UPPER)}" in commits[1]["message"]
    assert commits[0]["message"].endswith(f"Image: {digest(IMAGE.config())}\n")
    assert commits[3]["author"] == {"name": "Ann", "email": "a@b.org"}
    assert names(store, "main") == ["new", "os"]
    assert names(store, "main~2") == ["gone", "os"]
    config = json.loads(store("show", "main", "--format", "json").output)["config"]
    assert config == json.loads(IMAGE.config())
    step = json.loads(store("show", "main~2", "--format", "json").output)["config"]
    assert step == {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=1"]}}
    store("fsck")


def test_the_same_image_is_the_same_commits_wherever_it_is(store: Cli, tmp_path: Path) -> None:
    directory = layout(tmp_path / "image")
    archive = packed_directory(directory, tmp_path / "oci.tar")
    saved = docker_archive(tmp_path / "docker.tar", {"app:1": IMAGE})
    first = store.json("import", str(directory))
    for source in (directory, archive, saved):
        again = store.json("import", str(source))
        assert (again["commit"], again["made"], again["known"], again["added"]) == (first["commit"], False, 2, 0)
    with gzip.open(tmp_path / "docker.tar.gz", "wb") as packed:
        packed.write(saved.read_bytes())
    assert store.json("import", str(tmp_path / "docker.tar.gz"), "-b", "gz")["commit"] == first["commit"]
    for number, data in enumerate((saved.read_bytes(), bz2.compress(archive.read_bytes()))):
        told = store.json("import", "-", "-b", f"stdin{number}", input=data)
        assert told["commit"] == first["commit"]
    shutil.rmtree(store.store / "caches")
    again = store.json("import", str(saved))
    assert (again["commit"], again["known"], again["added"]) == (first["commit"], 0, 0)
    assert [name for name in os.listdir(store.store / "caches") if not name.startswith("image-")] == []


def chunked(data: bytes) -> bytes:
    """Frames with skippable ones in between, and at the end a table, as zstd:chunked has it."""
    pack = zstandard.ZstdCompressor().compress
    table = b"\x50\x2a\x4d\x18" + (40).to_bytes(4, "little") + bytes(32) + b"GNUlInUx"
    return pack(data[:700]) + b"\x51\x2a\x4d\x18\x03\0\0\0abc" + pack(data[700:]) + table


@pytest.mark.parametrize(
    ("packed", "kind"),
    [
        (bytes, LAYER),
        (gzip.compress, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        (zstandard.ZstdCompressor().compress, f"{LAYER}+zstd"),
        (chunked, f"{LAYER}+zstd"),
    ],
)
def test_compressions(store: Cli, tmp_path: Path, packed: Callable[[bytes], bytes], kind: str) -> None:
    store("import", str(layout(tmp_path / "image", packed=packed, kind=kind)))
    assert names(store, "main") == ["new", "os"]


def test_images_with_the_same_layers_share_commits(store: Cli, tmp_path: Path) -> None:
    base = MadeImage([BASE], HISTORY[:2])
    store("import", str(layout(tmp_path / "base", base)), "-b", "base")
    told = store.json("import", str(layout(tmp_path / "app")), "-b", "app")
    assert told["known"] == 1
    assert store.json("show", "app~3")["commit"] == store.json("show", "base~1")["commit"]


def test_flat(store: Cli, tmp_path: Path) -> None:
    told = store.json("import", str(layout(tmp_path / "image")), "--flat")
    assert told["commits"] == 1
    assert len(store.json("log", "main")) == 1
    assert names(store, "main") == ["new", "os"]


def test_a_history_that_does_not_fit_is_left_out(store: Cli, tmp_path: Path) -> None:
    store("import", str(layout(tmp_path / "image", MadeImage([BASE, UPPER], HISTORY[:1]))))
    assert [commit["message"].split("\n")[0] for commit in store.json("log", "main")] == ["Layer 2", "Layer 1"]


def test_an_image_without_layers(store: Cli, tmp_path: Path) -> None:
    told = store.json("import", str(layout(tmp_path / "image", MadeImage([], HISTORY[1:2]))))
    assert (told["entries"], told["layers"], told["commits"]) == (0, 0, 1)


def test_which_of_several(store: Cli, tmp_path: Path) -> None:
    other = MadeImage([BASE])
    saved = docker_archive(tmp_path / "docker.tar", {"example.org/app:1": IMAGE, "other:latest": other})
    error = store.error("import", str(saved))
    assert "choose one with --image: example.org/app:1, other:latest" in error["message"]
    assert "no image 'x:1'" in store.error("import", str(saved), "--image", "x:1")["message"]
    assert store.json("import", str(saved), "--image", "other")["layers"] == 1
    assert store.json("import", str(saved), "--image", "app:1", "-b", "app")["name"] == "example.org/app:1"
    made = LayoutMaker(tmp_path / "image")
    made.name(made.image(IMAGE), "1")
    made.name(made.image(other), "2")
    assert "choose one with --image: 1, 2" in store.error("import", str(made.path))["message"]
    assert store.json("import", str(made.path), "--image", "2", "-b", "two")["layers"] == 1


def test_which_platform(store: Cli, tmp_path: Path) -> None:
    made = LayoutMaker(tmp_path / "image")
    arm = made.image(MadeImage([BASE], architecture="arm64"))
    amd = made.image(MadeImage([BASE, UPPER], architecture="amd64"))
    note = made.image(MadeImage([], architecture="unknown"))
    inner = made.index(
        {**arm, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {**amd, "platform": {"os": "linux", "architecture": "amd64"}},
        {**note, "platform": {"os": "unknown", "architecture": "unknown"}},
    )
    path = str(made.name(made.index(inner)))
    assert store.json("import", path, "--platform", "linux/arm64", "-b", "arm")["layers"] == 1
    assert store.json("import", path, "--platform", "linux/amd64", "-b", "amd")["layers"] == 2
    error = store.error("import", path, "--platform", "linux/s390x")
    assert "no image for linux/s390x, but for linux/amd64, linux/arm64/v8" in error["message"]
    assert "is no platform" in store.error("import", path, "--platform", "arm64")["message"]
    every = store.json("import", path, "--platform", "all", "-b", "app")
    assert [(one["branch"], one["layers"]) for one in every] == [("app-arm64-v8", 1), ("app-amd64", 2)]
    lines = store("import", path, "--platform", "all", "-b", "app").stderr.splitlines()
    assert [line.rpartition(" has ")[0] for line in lines] == [
        "Nothing has changed: app-arm64-v8", "Nothing has changed: app-amd64"
    ]  # fmt: skip
    archive = tmp_path / "image.tar"
    subprocess.run(["tar", "-C", path, "-cf", archive, "."], check=True)
    assert [one["commit"] for one in store.json("import", str(archive), "--platform", "all", "-b", "tar")] == [
        one["commit"] for one in every
    ]
    saved = docker_archive(tmp_path / "docker.tar", {"app:1": IMAGE})
    (one,) = store.json("import", str(saved), "--platform", "all", "-b", "docker")
    assert one["branch"] == "docker-amd64"
    assert "no image for linux/arm64" in store.error("import", str(saved), "--platform", "linux/arm64")["message"]


def test_a_branch_moves_between_images_but_loses_no_work(store: Cli, tmp_path: Path) -> None:
    one, two = (str(layout(tmp_path / name, MadeImage([tar({name: name})]))) for name in ("one", "two"))
    first = store.json("import", one)["commit"]
    second = store.json("import", two)["commit"]
    assert store.json("show", "main")["commit"] == second
    store("undo")
    assert store.json("show", "main")["commit"] == first
    (tmp_path / "root").mkdir()
    (tmp_path / "root/mine").write_text("mine")
    mine = store.json("import", str(tmp_path / "root"))["commit"]
    assert not store.json("import", one)["made"]
    error = store.error("import", two)
    assert error["kind"] == "Conflict"
    assert "--force" in error["advice"]
    assert store.json("show", "main")["commit"] == mine
    assert store.json("import", two, "--force")["made"]


def test_options_that_do_not_fit(store: Cli, tmp_path: Path) -> None:
    image = str(layout(tmp_path / "image"))
    assert "SOURCE is an image" in store.error("import", image, "-m", "x", code=2)["message"]
    assert "SOURCE is an image" in store.error("import", image, "--exclude", "x", code=2)["message"]
    (tmp_path / "root").mkdir()
    assert "are for images" in store.error("import", str(tmp_path / "root"), "--flat", code=2)["message"]


def test_a_root_filesystem_with_names_like_an_image_is_one(store: Cli, tmp_path: Path) -> None:
    path = tmp_path / "root.tar"
    path.write_bytes(tar({"blobs": None, "blobs/x": "y", "index.json": "{}"}))
    assert store.json("import", str(path))["entries"] == 3
    with path.open("rb") as file:
        assert store.json("import", "-", "-b", "piped", input=file.read())["entries"] == 3


# -- what is hostile

Change = Callable[[LayoutMaker], object]


def _config(layers: list[bytes], **more: Any) -> bytes:
    return MadeImage(layers, more=more).config()


def _broken_blob(change: Callable[[bytes], bytes], which: int) -> Change:
    """One blob of an image is another than its digest says: 0 the first layer, 1 the config, 2 the manifest."""

    def make(made: LayoutMaker) -> None:
        manifest = made.image(IMAGE)
        made.name(manifest)
        wanted = [digest(gzip.compress(BASE, mtime=0)), digest(IMAGE.config()), manifest["digest"]][which]
        path = made.path / "blobs/sha256" / wanted[7:]
        if which == 0:
            document = json.loads((made.path / "blobs/sha256" / manifest["digest"][7:]).read_bytes())
            path = made.path / "blobs/sha256" / document["layers"][0]["digest"][7:]
        path.write_bytes(change(path.read_bytes()))

    return make


def _other_layers(*layers: bytes, config: bytes | None = None, kind: str = LAYER) -> Change:
    def make(made: LayoutMaker) -> None:
        told = made.blob(config or _config(list(layers)), CONFIG)
        made.name(made.manifest(told, [made.blob(layer, kind) for layer in layers]))

    return make


def _documents(**documents: bytes) -> Change:
    """Documents in place of those of an honest image: index, manifest or config."""

    def make(made: LayoutMaker) -> None:
        config = made.blob(documents.get("config", IMAGE.config()), CONFIG)
        layers = [made.blob(layer, LAYER) for layer in IMAGE.layers]
        manifest = made.manifest(config, layers)
        if "manifest" in documents:
            manifest = made.blob(documents["manifest"], MANIFEST)
        made.name(manifest)
        if "index" in documents:
            (made.path / "index.json").write_bytes(documents["index"])

    return make


def _itself(made: LayoutMaker) -> None:
    """An index that claims to be in itself: its digest cannot be right."""
    index = made.blob(b'{"schemaVersion": 2, "manifests": []}', INDEX)
    data = json.dumps({"schemaVersion": 2, "manifests": [index]}).encode()
    (made.path / "blobs/sha256" / index["digest"][7:]).write_bytes(data)
    made.name({**index, "size": len(data)})


def _deep(made: LayoutMaker) -> None:
    index = made.image(IMAGE)
    for _ in range(12):
        index = made.index(index)
    made.name(index)


def _wide(made: LayoutMaker) -> None:
    """Indexes of indexes, many at each level."""
    index = made.index()
    for level in range(3):
        index = made.index(*({**index, "annotations": {"n": f"{level} {number}"}} for number in range(100)))
    made.name(index)


def _zeros(pack: Callable[[], Any], mebibytes: int) -> bytes:
    """A layer with one file of zeros, compressed piece by piece."""
    size = mebibytes << 20
    header = raw_tar.patch(raw_tar.member(b"zeros"), 124, b"%011o\0" % size)
    packer = pack()
    piece = bytes(1 << 20)
    parts = [packer.compress(header)] + [packer.compress(piece) for _ in range(mebibytes)]
    return b"".join([*parts, packer.compress(raw_tar.END), packer.flush()])


def _bomb(made: LayoutMaker) -> None:
    data = _zeros(lambda: zstandard.ZstdCompressor().compressobj(), 10 << 10)
    assert len(data) < 10 << 20
    made.name(made.manifest(made.blob(_config([b""]), CONFIG), [made.blob(data, f"{LAYER}+zstd")]))


def _gzip_bomb(made: LayoutMaker) -> None:
    """A gzip stream for each mebibyte, a thousandth of it long: decoders read them as one."""
    zeros = gzip.compress(bytes(1 << 20))
    header = gzip.compress(raw_tar.patch(raw_tar.member(b"zeros"), 124, b"%011o\0" % (10 << 29)))
    data = header + zeros * (10 << 10)
    made.name(made.manifest(made.blob(_config([b""]), CONFIG), [made.blob(data, f"{LAYER}+gzip")]))


def _link(made: LayoutMaker) -> None:
    """A blob that is a FIFO."""
    manifest = made.image(IMAGE)
    path = made.path / "blobs/sha256" / digest(IMAGE.config())[7:]
    path.unlink()
    os.mkfifo(path)
    made.name(manifest)


ONE = raw_tar.END
HOSTILE: dict[str, tuple[Change, str]] = {
    "a layer's digest": (_broken_blob(lambda data: data[:-9] + b"x" + data[-8:], 0), "layer sha256:"),
    "a layer that is short": (_broken_blob(lambda data: data[:-9], 0), "bytes too early"),
    "a layer that is long": (_broken_blob(lambda data: data + b"x", 0), "layer sha256:"),
    "a config's digest": (_broken_blob(lambda data: data.replace(b"x", b"y"), 1), "other bytes than its digest"),
    "a config that is short": (_broken_blob(lambda data: data[:-1], 1), "bytes too early"),
    "a manifest's digest": (_broken_blob(lambda data: data.replace(b"2", b"3"), 2), "other bytes than its digest"),
    "another diff_id": (_other_layers(ONE, config=_config([BASE])), "another digest than the image's config says"),
    "more layers than diff_ids": (_other_layers(ONE, ONE, config=_config([ONE])), "of 1 layers, and the image has 2"),
    "more diff_ids than layers": (_other_layers(ONE, config=_config([ONE, ONE])), "of 2 layers, and the image has 1"),
    "..": (_other_layers(raw_tar.member(b"../x") + ONE), "contains '..'"),
    ".. below": (_other_layers(raw_tar.member(b"a/../../x") + ONE), "contains '..'"),
    "through a link": (_other_layers(raw_tar.symlink(b"a", b"/") + raw_tar.member(b"a/x") + ONE), "not a directory"),
    "through a link below": (
        _other_layers(raw_tar.symlink(b"a", b"/") + ONE, raw_tar.member(b"a/x") + ONE), "not a directory",
    ),
    "a hard link out": (_other_layers(raw_tar.hard_link(b"a", b"../../etc/shadow") + ONE), "contains '..'"),
    "a hard link to nothing": (_other_layers(raw_tar.hard_link(b"a", b"/etc/shadow") + ONE), "neither in the layer"),
    ".wh.": (_other_layers(raw_tar.member(b".wh.") + ONE), "no name that could be deleted"),
    ".wh..": (_other_layers(raw_tar.member(b".wh..") + ONE), "no name that could be deleted"),
    ".wh...": (_other_layers(raw_tar.member(b".wh...") + ONE), "no name that could be deleted"),
    ".wh.a/b": (_other_layers(raw_tar.member(b".wh.a/b") + ONE), "below a name that says what is deleted"),
    "../.wh.a": (_other_layers(raw_tar.member(b"../.wh.a") + ONE), "contains '..'"),
    "a whiteout through a link": (
        _other_layers(raw_tar.symlink(b"a", b"/") + ONE, raw_tar.member(b"a/.wh.etc") + ONE), "not a directory",
    ),
    "10 GB of zeros": (_bomb, "expands beyond"),
    "10 GB of zeros, gzip": (_gzip_bomb, "expands beyond"),
    "an index in itself": (_itself, "other bytes than its digest"),
    "indexes in indexes": (_deep, "too deep in other indexes"),
    "indexes upon indexes": (_wide, "too deep in other indexes"),
    "a foreign layer": (
        _other_layers(ONE, kind="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), "is foreign",
    ),
    "an artifact": (
        _documents(manifest=json.dumps({
            "schemaVersion": 2, "layers": [],
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(b"{}"), "size": 2},
        }).encode()),
        "which is no image",
    ),
    "a manifest that is an index too": (
        _documents(manifest=b'{"schemaVersion": 2, "manifests": [], "layers": []}'), "both a manifest and an index",
    ),
    "a manifest that is an index": (_documents(manifest=b'{"schemaVersion": 2, "manifests": []}'), "is an index"),
    "schema 1": (_documents(manifest=b'{"schemaVersion": 1}'), "schema version 1"),
    "huge JSON": (_documents(config=b'{"x": "' + b"x" * (5 << 20) + b'"}'), "at most"),
    "a huge index": (_documents(index=b'{"x": "' + b"x" * (5 << 20) + b'"}'), "at most"),
    "deep JSON": (_documents(config=b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not JSON"),
    "no JSON": (_documents(config=b"\xff\xfe"), "not JSON"),
    "a list": (_documents(config=b"[]"), "not a JSON object"),
    "for another system": (_other_layers(ONE, config=_config([ONE], os="windows")), "is for windows"),
    "no diff_ids": (_documents(config=b'{"rootfs": {"type": "layers", "diff_ids": ["x"]}}'), "no list of layers"),
    "a digest with a path": (
        _documents(index=json.dumps({"schemaVersion": 2, "manifests": [
            {"mediaType": MANIFEST, "digest": "sha256:../../../etc/passwd", "size": 3}]}).encode()),
        "names no blob",
    ),
    "a blob that is a FIFO": (_link, "is not a file"),
    "an empty index": (_documents(index=b'{"schemaVersion": 2, "manifests": []}'), "has no image"),
    "a layer that is no archive": (_other_layers(b"x" * 2048), "layer sha256:"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_hostile_is_one_clear_error(store: Cli, tmp_path: Path, case: str) -> None:
    make, words = HOSTILE[case]
    made = LayoutMaker(tmp_path / "image")
    make(made)
    error = store.error("import", str(made.path))
    assert error["kind"] == "BadInput", error
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert store.json("branch") == []
    store("gc", "--expire", "now")
    assert list((store.store / "layers").iterdir()) == []
    assert os.listdir(store.store / "caches") == []
    store("fsck")


def _saved(manifest: object, *members: bytes) -> bytes:
    return raw_tar.member(b"manifest.json", json.dumps(manifest).encode()) + b"".join(members) + raw_tar.END


ARCHIVES: dict[str, tuple[bytes, str]] = {
    "no config": (_saved([{"Config": "x.json", "Layers": []}]), "x.json is not in"),
    "a config elsewhere": (_saved([{"Config": "../../etc/passwd", "Layers": []}]), "contains '..'"),
    "no image": (_saved([]), "names no image"),
    "no list": (_saved({"x": 1}), "manifest.json is malformed"),
    "a link in a circle": (
        _saved([{"Config": "a", "Layers": []}], raw_tar.symlink(b"a", b"b"), raw_tar.symlink(b"b", b"a")),
        "a is not in",
    ),
    "a link out": (
        _saved([{"Config": "a", "Layers": []}], raw_tar.symlink(b"a", b"/etc/passwd")), "a is not in",
    ),
    "a config with another digest": (
        _saved([{"Config": "0" * 64 + ".json", "Layers": []}], raw_tar.member(b"0" * 64 + b".json", b"{}")),
        "other bytes than its name says",
    ),
    "a huge config": (
        _saved([{"Config": "a", "Layers": []}], raw_tar.member(b"a", bytes(5 << 20))), "is larger than",
    ),
    "another layer": (
        _saved([{"Config": "a", "Layers": ["l"]}], raw_tar.member(b"a", _config([BASE])), raw_tar.member(b"l", UPPER)),
        "another digest than the image's config says",
    ),
    "an archive that ends": (
        _saved([{"Config": "a", "Layers": ["l"]}], raw_tar.member(b"a", _config([BASE])), raw_tar.member(b"l", BASE))[
            :-8192
        ],
        "truncated",
    ),
    "many members": (
        _saved([], *(raw_tar.member(b"%d" % number) for number in range(20_001))), "as no image has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ARCHIVES)
def test_what_is_hostile_in_an_archive(store: Cli, tmp_path: Path, case: str) -> None:
    data, words = ARCHIVES[case]
    path = tmp_path / "image.tar"
    path.write_bytes(data)
    ways: list[tuple[str, dict[str, Any]]] = [(str(path), {}), ("-", {"input": data})]
    for source, settings in ways:
        error = store.error("import", source, **settings)
        assert error["kind"] == "BadInput", error
        assert words in error["message"]
    assert store.json("branch") == []


MEASURE = """
import os, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_many_entries_take_bounded_memory(store: Cli, tmp_path: Path) -> None:
    """Names are in memory until the layer's end, packed: 250 bytes each with their place."""
    made = LayoutMaker(tmp_path / "image")
    header = raw_tar.member(b"%08d" % 0)
    members = [raw_tar.patch(header, 0, b"%08d" % number) for number in range(200_000)]
    layer = b"".join([*members, raw_tar.END])
    made.name(made.image(MadeImage([layer]), packed=lambda data: gzip.compress(data, 1)))
    # The peak of a process that was started by a large one is at least that one's: so a small one is in between.
    command = [*store.command, "import", str(made.path)]
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        env=environment(store.store), stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert int(measured.stdout) < 250 << 10  # KiB
    assert len(store.lines("ls", "main:/")) == 200_000


def test_interrupted_imports_leave_nothing(store: Cli, tmp_path: Path) -> None:
    """The first layer is whole, the second is not: no branch, and gc takes the first."""
    made = LayoutMaker(tmp_path / "image")
    bad = raw_tar.member(b"../x") + raw_tar.END
    made.name(made.image(MadeImage([BASE, bad])))
    store.error("import", str(made.path))
    assert store.json("branch") == []
    told = store.json("import", str(layout(tmp_path / "good")))
    assert told["known"] == 1
