"""save and push: what is written, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support.values import root
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store


def read_layout(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A layout's index, and the manifest and the config of its first image; all digests and sizes are checked."""
    index = json.loads((path / "index.json").read_bytes())
    assert json.loads((path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}

    def blob(named: dict[str, Any]) -> bytes:
        data = (path / "blobs" / named["digest"].replace(":", "/")).read_bytes()
        assert len(data) == named["size"]
        assert "sha256:" + hashlib.sha256(data).hexdigest() == named["digest"]
        return data

    manifest = json.loads(blob(index["manifests"][0]))
    config = json.loads(blob(manifest["config"]))
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        assert "sha256:" + hashlib.sha256(gzip.decompress(blob(layer))).hexdigest() == diff_id
    return index, manifest, config


def files(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def test_each_commit_is_a_layer_and_a_line_of_the_history(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "layout"
    assert "2 layers" in cli("save", "main", "-o", str(target)).stderr
    index, manifest, config = read_layout(target)
    (named,) = index["manifests"]
    assert named["annotations"] == {
        "org.opencontainers.image.ref.name": "main",
        "io.containerd.image.name": "main:latest",
    }
    commits = cli.json("log", "main")
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    told = manifest["annotations"]
    assert told["org.opencontainers.image.revision"] == told["org.treering.commit"] == commits[0]["commit"]
    assert told["org.treering.root"] == "blake3:" + commits[0]["root"]
    assert [line["created_by"] for line in config["history"]] == ["first", "second"]
    assert config["config"]["Cmd"] == ["/bin/sh"]
    assert config["author"] == "Ada Tester <ada@example.org>"
    assert config["created"] == config["history"][-1]["created"] == told["org.opencontainers.image.created"]


def test_the_same_commits_are_the_same_bytes(cli: Cli, tmp_path: Path) -> None:
    saved = []
    for number, compression in enumerate(("gzip", "gzip", "zstd", "zstd", "none", "none")):
        target = tmp_path / f"layout{number}"
        shutil.rmtree(cli.store / "caches")
        cli("save", "main", "-o", str(target), "--compression", compression)
        saved.append(files(target))
    assert saved[0] == saved[1]
    assert saved[2] == saved[3]
    assert saved[4] == saved[5]
    one = tmp_path / "layout-one"
    shutil.rmtree(cli.store / "caches")
    cores = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["taskset", "-c", str(cores), *cli.command, "--store", str(cli.store), "save", "main", "-o", str(one)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TREERING_FORK_SERVER": "0"},
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files(one) == saved[0]


def test_a_commit_that_changed_no_file_has_no_layer(cli: Cli, tmp_path: Path) -> None:
    cli("export", "main", str(tmp_path / "root"))
    cli("import", str(tmp_path / "root"), "-m", "the same", "--allow-empty")
    cli("save", "main", "-o", str(tmp_path / "layout"))
    _, manifest, config = read_layout(tmp_path / "layout")
    assert len(manifest["layers"]) == 2
    assert [line.get("empty_layer", False) for line in config["history"]] == [False, False, True]


def test_flat_and_since(cli: Cli, tmp_path: Path) -> None:
    flat = cli.json("save", "main", "-o", str(tmp_path / "flat"), "--layers", "flat")
    assert len(flat["layers"]) == 1
    assert len(read_layout(tmp_path / "flat")[2]["history"]) == 1
    base = cli.json("save", "main~1", "-o", str(tmp_path / "base"), "--layers", "flat")
    ones = [cli.json("save", rev, "-o", str(tmp_path / rev), "--layers", "since=main~1") for rev in ("main", "other")]
    assert {one["layers"][0]["digest"] for one in ones} == {base["layers"][0]["digest"]}
    assert [len(one["layers"]) for one in ones] == [2, 2]
    assert ones[0]["layers"][1] != ones[1]["layers"][1]
    error = cli.error("save", "main", "-o", str(tmp_path / "no"), "--layers", "since=other")
    assert error["kind"] == "BadInput"
    assert "not among the first parents" in error["message"]
    assert cli.error("save", "main", "-o", "x", "--layers", "many", code=2)["kind"] == "UsageError"


def test_a_layout_keeps_what_is_in_it(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "layout"
    cli("save", "main", "-o", str(target))
    cli("save", "other", "-o", str(target), "-t", "example.org/web:1.2", "-t", "web:new")
    cli("save", "other", "-o", str(target), "-t", "web:main")
    named = {
        one["annotations"]["org.opencontainers.image.ref.name"]: one
        for one in json.loads((target / "index.json").read_bytes())["manifests"]
    }
    assert set(named) == {"main", "1.2", "new"}
    assert named["1.2"]["annotations"]["io.containerd.image.name"] == "example.org/web:1.2"
    assert named["main"]["digest"] == named["new"]["digest"]
    assert cli.error("save", "main", "-o", str(target), "-t", "Upper:1")["kind"] == "InvalidName"


def test_a_docker_archive(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "main.tar"
    cli("save", "v1", "-o", str(target), "-t", "web:1", "-t", "web:2")
    with tarfile.open(target) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    (entry,) = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["web:1", "web:2"]
    config = json.loads(members[entry["Config"]])
    hashes = ["sha256:" + hashlib.sha256(members[name]).hexdigest() for name in entry["Layers"]]
    assert hashes == config["rootfs"]["diff_ids"]
    done = cli.process("save", "v1", "--tag", "web:1", "--tag", "web:2")
    assert (done.returncode, done.stdout) == (0, target.read_bytes())
    assert not list(tmp_path.glob(".*partial"))


def test_an_oci_archive_is_the_layout(cli: Cli, tmp_path: Path) -> None:
    cli("save", "main", "-o", str(tmp_path / "layout"))
    done = cli.process("save", "main", "--image-format", "oci-archive")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = {one.name: archive.extractfile(one).read() for one in archive if one.isfile()}  # type: ignore[union-attr]
    assert members == files(tmp_path / "layout")


def test_what_cannot_be_saved(cli: Cli, tmp_path: Path) -> None:
    assert cli.error("save", "nothing", "-o", str(tmp_path / "x"))["kind"] == "NotFound"
    assert "directory" in cli.error("save", "main", "--image-format", "oci", code=2)["message"]
    assert "name a file" in cli.error("save", "main", code=2)["message"]
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".wh.name").touch()
    cli("import", str(tmp_path / "root"), "-b", "odd")
    error = cli.error("save", "odd", "-o", str(tmp_path / "x"))
    assert error["facts"] == {"layer": "/.wh.name"}
    assert "rename" in error["advice"]
    assert not (tmp_path / "x").exists()
    assert not list((cli.store / "caches/images/blobs/sha256").iterdir())
    (tmp_path / "file").write_text("no layout")
    assert "layout is a directory" in cli.error("save", "main", "-o", str(tmp_path / "file"), code=2)["message"]
    assert (tmp_path / "file").read_text() == "no layout"


def test_layers_are_made_once(cli: Cli, tmp_path: Path) -> None:
    cli("save", "main", "-o", str(tmp_path / "one"))
    blobs = cli.store / "caches/images/blobs/sha256"
    before = {path.name: path.stat().st_ino for path in blobs.iterdir()}
    layers = {layer["digest"].partition(":")[2] for layer in read_layout(tmp_path / "one")[1]["layers"]}
    cli("save", "main", "-o", str(tmp_path / "two"))
    assert {name: (blobs / name).stat().st_ino for name in layers} == {name: before[name] for name in layers}
    (blobs / layers.pop()).unlink()
    cli("save", "main", "-o", str(tmp_path / "three"))
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")


def test_gc_removes_what_is_not_needed_any_more(cli: Cli, tmp_path: Path) -> None:
    caches = cli.store / "caches"

    def kept() -> int:
        return len(list(caches.glob("layer-*")))

    cli("save", "other", "-o", str(tmp_path / "one"))
    assert kept() == 2
    cli("gc")
    assert kept() == 2
    assert len(list((caches / "images/blobs/sha256").iterdir())) == 2
    old = time.time() - 8 * 86400
    (record,) = [path for path in caches.glob("layer-*") if cli.json("log", "other")[0]["root"] in path.read_text()]
    os.utime(record, (old, old))
    cli("gc")
    assert not record.exists()
    assert kept() == 1
    assert len(list((caches / "images/blobs/sha256").iterdir())) == 1
    cli("save", "other", "-o", str(tmp_path / "two"))
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_push_without_skopeo(cli: Cli, tmp_path: Path) -> None:
    done = cli.process("push", "main", "localhost:1/web", env={"PATH": str(tmp_path)})
    assert done.returncode == 125
    assert b"skopeo is not installed" in done.stderr
    assert b"apt-get install skopeo" in done.stderr


@pytest.mark.parametrize("reference", ["", "/", "--all"])
def test_push_to_nowhere(cli: Cli, reference: str) -> None:
    assert cli.error("push", "main", "--", reference)["kind"] == "InvalidName"


def test_layers_have_only_what_changed(cli: Cli, tmp_path: Path) -> None:
    cli("save", "main", "-o", str(tmp_path / "layout"), "--compression", "none")
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    manifest = json.loads((tmp_path / "layout/blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_bytes())
    with tarfile.open(tmp_path / "layout/blobs" / manifest["layers"][1]["digest"].replace(":", "/")) as archive:
        names = archive.getnames()
        assert stat.S_IMODE(archive.getmember("./etc/passwd").mode) == 0o600
    assert names == [".", "./etc", "./etc/added", "./etc/motd", "./etc/passwd"]


def for_platform(cli: Cli, branch: str, architecture: str) -> None:
    """A branch with the files of `main`, for another architecture."""
    with Store.open(cli.store) as store:
        main = store.branches()["main"]
        config = {**store.history.config(main), "architecture": architecture}
        author = Author("Ada", "ada@example.org", 1_700_000_000)
        commit = store.add_commit(store.commit(main).root, config, f"for {architecture}\n", author)
        store.history.move(f"refs/heads/{branch}", commit, None, "test", author)


def test_several_platforms_are_an_index(cli: Cli, tmp_path: Path) -> None:
    for_platform(cli, "small", "arm64")
    for_platform(cli, "large", "riscv64")
    target = tmp_path / "layout"
    saved = cli.json("save", "small", "large", "-o", str(target), "-t", "web:1")
    (top,) = json.loads((target / "index.json").read_bytes())["manifests"]
    assert (top["mediaType"], top["digest"]) == ("application/vnd.oci.image.index.v1+json", saved["digest"])
    index = json.loads((target / "blobs" / top["digest"].replace(":", "/")).read_bytes())
    assert [one["platform"] for one in index["manifests"]] == [
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "riscv64", "os": "linux"},
    ]
    assert [one["digest"] for one in index["manifests"]] == [one["digest"] for one in saved["images"]]
    assert saved["images"][0]["layers"] == saved["images"][1]["layers"]
    assert "several for linux/arm64" in cli.error("save", "small", "small", "-o", str(target))["message"]
    error = cli.error("save", "small", "large", "-o", str(tmp_path / "x.tar"), code=2)
    assert "docker-archive is for one platform" in error["message"]
    assert cli.error("save", code=2)["kind"] == "UsageError"


def test_more_layers_than_docker_takes(cli: Cli, tmp_path: Path) -> None:
    with Store.open(cli.store) as store, store.writing():
        with store.batch() as batch:
            roots = [root(batch, {"file": b"%d" % number}) for number in range(130)]
        author = Author("Ada", "ada@example.org", 1_700_000_000)
        parents: tuple[CommitId, ...] = ()
        for one in roots:
            parents = (store.history.write_commit(one, {}, "x\n", author, parents),)
        store.history.move("refs/heads/long", parents[0], None, "test", author)
    said = cli("save", "long", "-o", str(tmp_path / "long")).stderr
    assert "warning: these are 130 layers" in said
    said = cli("save", "long", "-o", str(tmp_path / "short"), "--layers", "since=long~3").stderr
    assert "warning" not in said
