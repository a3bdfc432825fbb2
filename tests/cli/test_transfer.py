"""import and export, and the trees they carry."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.support.busybox_root import make_busybox_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_busybox_root(tmp_path / "root")


def test_import_of_a_directory(empty: Cli, root: Path) -> None:
    empty("init")
    value = empty.json("import", str(root), "-m", "base")
    assert value["made"]
    assert value["branch"] == "main"
    assert value["entries"] == sum(len(names) + len(files) for _, names, files in os.walk(root))
    again = empty.json("import", str(root))
    assert not again["made"]
    assert again["commit"] == value["commit"]
    assert again["added"] == 0
    assert empty.json("import", str(root), "--allow-empty")["made"]
    assert "Nothing has changed" in empty("import", str(root)).stderr


def test_the_author(empty: Cli, root: Path) -> None:
    empty("init")
    (empty.store.parent / ".gitconfig").write_text("[user]\n\tname = Git User\n\temail = git@example.org\n")
    names = {}
    for branch, arguments, env in (
        ("option", ["--author", "Option <o@example.org>"], {}),
        ("environment", [], {}),
        ("git-environment", [], {"TREERING_AUTHOR_NAME": "", "TREERING_AUTHOR_EMAIL": "", "GIT_AUTHOR_NAME": "G"}),
        ("git-config", [], {"TREERING_AUTHOR_NAME": "", "TREERING_AUTHOR_EMAIL": ""}),
        ("login", [], {"TREERING_AUTHOR_NAME": "", "TREERING_AUTHOR_EMAIL": "", "HOME": "/nonexistent"}),
    ):
        done = empty.process("import", str(root), "-b", branch, *arguments, env=env)
        assert done.returncode == 0, done.stderr
        author = empty.json("log", branch)[0]["author"]
        names[branch] = (author["name"], author["email"])
    assert names["option"] == ("Option", "o@example.org")
    assert names["environment"] == ("Ada Tester", "ada@example.org")
    assert names["git-environment"] == ("G", "git@example.org")
    assert names["git-config"] == ("Git User", "git@example.org")
    assert names["login"][1].startswith(names["login"][0] + "@")
    assert empty.error("import", str(root), "--author", "nonsense", code=2)["kind"] == "UsageError"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_archives_round_trip(cli: Cli, tmp_path: Path, suffix: str) -> None:
    archive = tmp_path / f"out.tar{suffix}"
    cli("export", "main", "-o", str(archive))
    value = cli.json("import", str(archive), "-b", "copy")
    assert value["root"] == cli.json("show", "main")["root"]
    assert cli.lines("diff", "main", "copy") == []


def test_archives_through_pipes(cli: Cli) -> None:
    archive = cli.process("export", "main").stdout
    done = cli.process("import", "-", "-b", "copy", input=archive)
    assert done.returncode == 0, done.stderr
    assert cli.lines("diff", "main", "copy") == []
    assert "./etc/motd" in tarfile.open(fileobj=io.BytesIO(archive)).getnames()


def test_export_of_a_directory(cli: Cli, tmp_path: Path) -> None:
    target = tmp_path / "out"
    cli("export", "main", str(target))
    assert (target / "etc/motd").read_text() == "one\n2\nthree\nfour\n"
    assert cli.json("import", str(target), "-b", "copy")["root"] == cli.json("show", "main")["root"]
    cli("export", "main:/etc", str(tmp_path / "etc"))
    assert (tmp_path / "etc/motd").exists()
    assert cli.error("export", "main", str(target))["kind"] == "AlreadyExists"
    assert cli.error("export", "main:/etc/motd", str(tmp_path / "x"), code=2)["kind"] == "UsageError"
    assert cli.error("export", "main", str(tmp_path / "no/where"))["kind"] == "NotFound"


def test_a_broken_archive_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    archive = cli.process("export", "main").stdout
    (tmp_path / "cut.tar").write_bytes(archive[: len(archive) // 2])
    error = cli.error("import", str(tmp_path / "cut.tar"), "-b", "cut")
    assert error["kind"] == "BadInput"
    assert "truncated" in error["message"]
    assert "cut" not in {row["name"] for row in cli.json("branch")}
    cli("fsck")


def test_a_failed_export_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    assert cli.error("export", "nope", "-o", str(tmp_path / "x.tar"))["kind"] == "NotFound"
    for layer in (cli.store / "layers").glob("*.layer"):
        data = bytearray(layer.read_bytes())
        data[len(data) // 3] ^= 1
        layer.write_bytes(data)
    cli.error("export", "main", "-o", str(tmp_path / "x.tar"))
    assert not [path for path in tmp_path.iterdir() if "x.tar" in path.name]


def test_import_of_what_is_not_there(cli: Cli, tmp_path: Path) -> None:
    error = cli.error("import", str(tmp_path / "nope"))
    assert error["kind"] == "FileNotFoundError"
    assert str(tmp_path / "nope") in error["message"]


def test_the_store_is_left_out_of_an_import_of_what_it_lies_in(empty: Cli) -> None:
    empty("init")
    value = empty.json("import", str(empty.store.parent))
    assert [one["path"] for one in value["skipped"]] == ["/store"]
    assert empty.lines("ls", "main:/store") == []


def test_two_imports_to_one_branch_at_once(cli: Cli, tmp_path: Path) -> None:
    """The one that comes second gets a clear conflict; no commit is lost."""
    reader, writer = os.pipe()
    slow = cli.start("import", "-", "-b", "main", stdin=reader, stderr=subprocess.PIPE)
    os.close(reader)
    archive = cli.process("export", "other").stdout
    feeder = threading.Thread(target=_feed, args=(writer, archive[:100_000]))
    feeder.start()
    feeder.join()
    first = cli.json("import", str(make_busybox_root(tmp_path / "fast")), "-b", "main", "--allow-empty")
    _feed(writer, archive[100_000:])
    os.close(writer)
    _, stderr = slow.communicate(timeout=60)
    assert slow.returncode == 125
    assert b"branch 'main' has moved" in stderr
    assert b"hint: somebody else's commits" in stderr
    assert cli.json("show", "main")["commit"] == first["commit"]
    cli("fsck")


def _feed(writer: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(writer, view) :]


def test_a_target_that_is_named_like_an_archive_is_one(cli: Cli, tmp_path: Path) -> None:
    cli("export", "main", str(tmp_path / "out.tar.gz"))
    assert tarfile.open(tmp_path / "out.tar.gz").getnames()
    (tmp_path / "odd.tar").mkdir()
    cli("export", "main", str(tmp_path / "odd.tar"))
    assert os.listdir(tmp_path / "odd.tar")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    top = tmp_path / "sources"
    for name in ("a.o", "keep.o", "c.c", "sub/b.o", "sub/deep/x", "cache/y"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    return top


def files_of(cli: Cli, branch: str = "main") -> set[str]:
    found = tarfile.open(fileobj=io.BytesIO(cli.process("export", branch).stdout))
    return {member.name.removeprefix("./") for member in found.getmembers() if member.isreg()}


def test_patterns_decide_in_their_order(empty: Cli, sources: Path, tmp_path: Path) -> None:
    empty("init")
    (tmp_path / "rules").write_text("# not wanted\n/cache\n!/keep.o\n")
    value = empty.json("import", str(sources), "--exclude", "*.o", "--exclude-from", str(tmp_path / "rules"))
    assert value["left_out"] == 3
    assert files_of(empty) == {"keep.o", "c.c", "sub/deep/x"}
    empty("import", str(sources), "--include", "*.o", "--exclude", "*.o")
    assert files_of(empty) == {"c.c", "sub/deep/x", "cache/y"}
    result = empty("import", str(sources), "--exclude", "*.o", "--include", "*.o", "--exclude", "sub/")
    assert files_of(empty) == {"a.o", "keep.o", "c.c", "cache/y"}
    assert "1 path left out by patterns" in result.stderr


def test_treeringignore_files(empty: Cli, sources: Path) -> None:
    empty("init")
    (sources / ".treeringignore").write_text("*.o\n")
    (sources / "sub/.treeringignore").write_text("!b.o\ndeep/\n")
    ours = {".treeringignore", "sub/.treeringignore"}
    empty("import", str(sources))
    assert files_of(empty) == {"c.c", "cache/y", "sub/b.o"} | ours
    assert empty.json("import", str(sources), "--no-ignore")["left_out"] == 0
    assert files_of(empty) == {"a.o", "keep.o", "c.c", "cache/y", "sub/b.o", "sub/deep/x"} | ours
    (sources / "sub/.treeringignore").write_text("\n!\n")
    error = empty.error("import", str(sources))
    assert error["kind"] == "BadInput"
    assert error["message"] == "/sub/.treeringignore, line 2: '!' is not a pattern"
    assert empty.error("import", str(sources), "--exclude", "#x")["message"] == "--exclude: '#x' is not a pattern"
    assert empty.error("import", str(sources), "--exclude-from", "/nope", code=2)["kind"] == "UsageError"


def test_patterns_and_archives(cli: Cli, sources: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        tar.add(sources, arcname=".")
    value = cli.json("import", str(tmp_path / "in.tar"), "-b", "tar", "--exclude", "*.o", "--include", "keep.o")
    assert value["left_out"] == 2
    assert files_of(cli, "tar") == {"keep.o", "c.c", "sub/deep/x", "cache/y"}
    cli("import", str(sources), "-b", "directory", "--exclude", "*.o", "--include", "keep.o")
    assert files_of(cli, "directory") == files_of(cli, "tar")


def test_a_second_import_goes_by_the_first_and_rescan_does_not(empty: Cli, sources: Path) -> None:
    empty("init")
    first = empty.json("import", str(sources))
    (cache,) = (empty.store / "caches").iterdir()
    line = cache.read_bytes().split(b"\n")[0].decode()
    assert line == first["root"]
    assert not empty.json("import", str(sources))["made"]
    (sources / "c.c").write_text("more")
    second = empty.json("import", str(sources), "-b", "other")
    assert empty.json("import", str(sources), "-b", "rescan", "--rescan")["root"] == second["root"] != first["root"]
    assert cache.read_bytes().split(b"\n")[0].decode() == second["root"]
    empty("fsck")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: devices")
def test_devices_that_no_container_would_see_are_told(empty: Cli, sources: Path) -> None:
    empty("init")
    os.mknod(sources / "sub/gone", stat.S_IFCHR, os.makedev(0, 0))
    for _ in range(2):
        result = empty("import", str(sources))
        assert "warning: /sub/gone is a character device 0:0" in result.stderr
    assert [one["path"] for one in empty.json("import", str(sources))["whiteouts"]] == ["/sub/gone"]
    with tarfile.open(sources.parent / "in.tar", "w") as tar:
        tar.add(sources, arcname=".")
    assert "/sub/gone is" in empty("import", str(sources.parent / "in.tar"), "-b", "tar").stderr
