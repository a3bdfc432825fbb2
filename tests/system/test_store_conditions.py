"""Whole commands on a store in a state that no command leaves: mounted read-only, without its index or with half of it,
with a layer or a part of its history that is damaged, after the clock went back, copied while it was in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.cli.program import program
from tests.cli.conftest import Cli, environment, stop_service
from tests.support.busybox_root import make_busybox_root

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: mounts")
READ_ONLY = ("Read-only file system", "cannot be written")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small root, and a store of two commits of it on `main`, a branch, a tag and a container."""
    directory = tmp_path_factory.mktemp("conditions")
    cli = Cli(directory / "store")
    root = make_busybox_root(directory / "root")
    (root / "etc/motd").write_text("one\n")
    cli("init")
    cli("import", str(root), "-m", "first")
    (root / "etc/motd").write_text("two\n")
    cli("import", str(root), "-m", "second")
    cli("branch", "side", "main~1")
    cli("tag", "v1", "main", "-m", "a release")
    cli("create", "--name", "web", "main")
    return directory


@pytest.fixture
def cli(prepared: Path, tmp_path: Path) -> Iterator[Cli]:
    subprocess.run(["cp", "-a", str(prepared / "store"), str(prepared / "root"), str(tmp_path)], check=True)
    yield Cli(tmp_path / "store")
    stop_service(tmp_path / "store")


def told(cli: Cli, line: str) -> tuple[int, str, str]:
    """A command: its exit code, and what it says. It never ends by a fault of ours."""
    done = CliRunner(env=environment(cli.store, {"SUDO_UID": ""})).invoke(program, line.split())
    assert "unexpected" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.exit_code, done.stdout, done.stderr


def files(store: Path) -> dict[str, tuple[int, int]]:
    return {str(path.relative_to(store)): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in store.rglob("*")}


# -- read-only


@contextmanager
def read_only(cli: Cli, at: Path) -> Iterator[Cli]:
    """The same store, where nothing can be written."""
    at.mkdir()
    subprocess.run(["mount", "--bind", str(cli.store.parent), str(at)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(at)], check=True)
        yield Cli(at / cli.store.name)
    finally:
        subprocess.run(["umount", str(at)], check=True)


READING = (
    "log", "log --graph", "show main", "diff main~1 main", "ls main:/etc", "cat main:/etc/motd", "branch", "tag",
    "status web", "inspect web", "blame main:/etc/motd", "grep two main", "reflog main", "op log", "op show",
    "note list", "stash list", "--at-op @~1 branch", "forget --dry-run --keep-last 1 main", "du", "compare main side",
    "fsck --read-data",
)  # fmt: skip
CHANGING = (
    "branch new", "branch -d side", "branch -f side main", "tag v2", "tag -d v1", "create main", "rename web other",
    "rm web", "rollback web main~1", "fork web", "stash web", "revert main", "note add main -m noted", "undo", "gc",
    "gc --expire now", "forget --keep-last 1 main", "op restore @~1", "promote web -b main", "update --memory 64m web",
    "commit web -m one --allow-empty", "squash side -m one", "bisect start main side", "run --rm main true",
    "start web", "fsck --rebuild-index", "import ROOT -m third", "cp ROOT/etc/motd web:/new",
)  # fmt: skip
INDEXES: dict[str, Callable[[Path], object]] = {
    "as it was closed": lambda store: None,
    "not closed": lambda store: _leave_open(store),
    "gone": lambda store: (store / "index.db").unlink(),
    "damaged": lambda store: (store / "index.db").write_bytes(b"this is no database" * 500),
}


def _leave_open(store: Path) -> None:
    """As one who was killed leaves it: not sealed, and the last of it in the log only."""
    code = (
        "import os, sys; from pathlib import Path; from vcs.store import Store\n"
        "store = Store.open(Path(sys.argv[1])); store.index.doom([]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(store)], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})


@needs_root
@pytest.mark.parametrize("state", INDEXES)
def test_a_store_that_is_read_only_can_be_read(cli: Cli, tmp_path: Path, state: str) -> None:
    expected = {line: told(cli, line)[:2] for line in READING}
    assert {code for code, _ in expected.values()} == {0}
    INDEXES[state](cli.store)
    before = files(cli.store)
    with read_only(cli, tmp_path / "read-only") as seen:
        for line in READING[: -1 if state == "damaged" else None]:
            code, out, err = told(seen, line)
            assert (code, out.replace(str(seen.store), str(cli.store))) == expected[line], f"{line}\n{err}"
    assert files(cli.store) == before


@needs_root
def test_what_changes_a_store_that_is_read_only_says_why_not(cli: Cli, tmp_path: Path) -> None:
    before = files(cli.store)
    with read_only(cli, tmp_path / "read-only") as seen:
        for line in CHANGING:
            code, _, err = told(seen, line.replace("ROOT", str(tmp_path / "root")))
            assert code == 125, f"{line}\n{err}"
            assert any(words in err for words in READ_ONLY), f"{line}\n{err}"
    assert files(cli.store) == before


# -- the index


def _cut(path: Path, keep: int) -> None:
    path.chmod(0o600)
    os.truncate(path, keep)


HARMS: dict[str, Callable[[Path], object]] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: _cut(path, 0),
    "half": lambda path: _cut(path, path.stat().st_size // 2),
    "no page whole": lambda path: _cut(path, 1000),
    "no database": lambda path: path.write_bytes(os.urandom(20_000)),
    "a log of nobody's": lambda path: path.with_name("index.db-wal").write_bytes(os.urandom(20_000)),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("line", ["cat main:/etc/motd", "import ROOT -m third", "gc --expire now", "fork web"])
def test_a_lost_index_is_made_anew_by_whatever_comes_next(cli: Cli, tmp_path: Path, harm: str, line: str) -> None:
    HARMS[harm](cli.store / "index.db")
    (tmp_path / "root/etc/motd").write_text("three\n")
    code, out, err = told(cli, line.replace("ROOT", str(tmp_path / "root")))
    assert code == 0, err
    assert not line.startswith("cat") or out == "two\n"
    assert told(cli, "cat side:/etc/motd")[:2] == (0, "one\n")
    code, out, err = told(cli, "fsck --read-data")
    assert code == 0, out + err


# -- layers, and the history


def test_a_layer_that_is_cut_or_gone_costs_what_was_in_it_and_nothing_else(cli: Cli, tmp_path: Path) -> None:
    """What another store has of it comes back."""
    shutil.copytree(cli.store, tmp_path / "other", symlinks=True)
    for harm in (lambda path: _cut(path, path.stat().st_size // 2), Path.unlink):
        harm(max((cli.store / "layers").glob("*.layer"), key=lambda path: path.stat().st_size))
        code, _, err = told(cli, "export main:/bin /dev/null/nowhere")
        assert code == 125
        assert "layer" in err or "object" in err
        assert told(cli, "log")[0] == told(cli, "branch more main")[0] == told(cli, "branch -d more")[0] == 0
        assert told(cli, "fsck --read-data")[0] == 1
        assert told(cli, "gc --expire now")[0] in (1, 125), "what is damaged is told"
        code, out, err = told(cli, f"fsck --repair --from {tmp_path / 'other'}")
        assert code == 0, out + err
        assert told(cli, "cat main:/etc/motd")[:2] == (0, "two\n")
        assert told(cli, "cat main:/bin/busybox")[0] == 0


BREAKS: dict[str, Callable[[Path, str], object]] = {
    "a ref that is cut": lambda git, _: (git / "refs/heads/main").write_text("1234\n"),
    "an empty ref": lambda git, _: (git / "refs/heads/main").write_text(""),
    "a ref to nothing": lambda git, _: (git / "refs/heads/main").write_text("1" * 40 + "\n"),
    "an object that is cut": lambda git, tip: _cut(git / f"objects/{tip[:2]}/{tip[2:]}", 10),
    "an empty object": lambda git, tip: _cut(git / f"objects/{tip[:2]}/{tip[2:]}", 0),
    "a lost object": lambda git, tip: (git / f"objects/{tip[:2]}/{tip[2:]}").unlink(),
}


@pytest.mark.parametrize("harm", BREAKS)
def test_a_broken_branch_is_told_and_comes_back(cli: Cli, tmp_path: Path, harm: str) -> None:
    shutil.copytree(cli.store, tmp_path / "other", symlinks=True)
    git = cli.store / "history.git"
    BREAKS[harm](git, (git / "refs/heads/main").read_text().strip())
    for line in ("log main", "cat main:/etc/motd", "diff side main"):
        code, _, err = told(cli, line)
        assert (code, bool(err)) == (125, True), line
    assert told(cli, "cat side:/etc/motd")[:2] == (0, "one\n")
    code, out, _ = told(cli, "fsck")
    assert (code, bool(out)) == (1, True)
    code, out, err = told(cli, f"fsck --repair --from {tmp_path / 'other'}")
    assert code == 0, out + err
    for branch, text in (("main", "two\n"), ("side", "one\n")):
        assert told(cli, f"cat {branch}:/etc/motd")[:2] == (0, text)
    assert told(cli, "branch new side")[0] == 0


# -- the clock, and copies


def test_a_clock_that_goes_back_loses_nothing(cli: Cli, tmp_path: Path) -> None:
    """What was done in the future is older than what is done now: by their order, not by their dates."""
    motd = tmp_path / "root/etc/motd"
    for text, line in (("three\n", f"import {tmp_path / 'root'} -m third"), ("", "branch ahead main"), ("", "tag v2")):
        if text:
            motd.write_text(text)
        ahead = ["faketime", "-f", "+400d", *cli.command, *line.split()]
        subprocess.run(ahead, env=environment(cli.store), check=True, capture_output=True, timeout=120)
    motd.write_text("four\n")
    for line in (f"import {tmp_path / 'root'} -m fourth", "branch now", "branch -d ahead"):
        assert told(cli, line)[0] == 0
    assert told(cli, "cat main:/etc/motd")[1] == "four\n"
    assert told(cli, "cat main@{1}:/etc/motd")[1] == "three\n"
    for _ in range(3):
        assert told(cli, "undo")[0] == 0
    assert told(cli, "cat main:/etc/motd")[1] == told(cli, "cat ahead:/etc/motd")[1] == "three\n"
    assert {line.split()[0] for line in cli.lines("branch")} >= {"ahead", "main", "side"}
    for line in ("redo", "redo", "redo", "gc", "merge side", "gc --expire now", "fsck --read-data"):
        assert told(cli, line)[0] == 0, line
    assert told(cli, "cat main:/etc/motd")[1] == "four\n"


WRITER = """
import sys
from pathlib import Path
from tests.cli.conftest import Cli
cli, number = Cli(Path(sys.argv[1])), 0
while True:
    number += 1
    for text in ("one", "two"):
        Path(sys.argv[2], "etc/motd").write_text(text)
        cli("import", sys.argv[2], "-m", text)
    cli("create", "--name", f"c{number}", "main")
    cli("branch", f"b{number}")
    if number % 3 == 0:
        cli("rm", f"c{number}")
        cli("branch", "-d", f"b{number}")
        cli("gc", "--expire", "now")
        print(number, flush=True)
"""


def test_a_copy_of_a_store_in_use_is_told_to_be_one_and_is_repaired(cli: Cli, tmp_path: Path) -> None:
    """It has parts of different moments: nothing of it is read wrongly, and the store it is of has the rest."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cli.store), str(tmp_path / "root")],
        env=environment(cli.store), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert writer.stdout
        for number in range(4):
            assert writer.stdout.readline()
            copy = Cli(tmp_path / f"copy{number}")
            how = ["cp", "-a", cli.store] if number % 2 else ["rsync", "-a", f"{cli.store}/"]
            subprocess.run([*how, copy.store], check=False, capture_output=True)  # files that vanish are told
            code, out, err = told(copy, "cat main:/etc/motd")
            assert out in (("one", "two", "two\n") if code == 0 else ("",)), err
            was_whole = told(copy, "fsck --read-data")[0] == 0
            assert not was_whole or code == 0
            told(copy, f"fsck --repair --from {cli.store}")
            assert told(copy, "cat main:/etc/motd")[1] in ("one", "two")
            assert told(copy, "ps -a")[0] == told(copy, "branch new main")[0] == told(copy, "gc")[0] == 0
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()
    assert told(cli, "fsck --read-data")[0] == 0
