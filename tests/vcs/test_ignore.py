"""What patterns leave out of an import; git is asked what it would have done."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcs.errors import BadInput
from vcs.ignore import Ignore, Patterns, Selection, patterns_in
from vcs.importer import import_directory
from vcs.importresult import ImportResult
from vcs.snapshot import Snapshot
from vcs.tar_import import import_tar
from vcs.testing import MemoryStore

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

TREE = [
    "a",
    "b.o",
    "c.txt",
    "dir/a",
    "dir/b.o",
    "dir/sub/a",
    "dir/sub/keep.o",
    "other/dir/x",
    "#odd",
    "with space ",
    "x[1]",
]


def patterns(*lines: str) -> Patterns:
    return Patterns([("here", line) for line in lines])


def make(top: Path, names: list[str]) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    return top


def imported(top: Path, ignore: Ignore) -> tuple[set[str], ImportResult]:
    """The files that an import takes, as text."""
    store = MemoryStore()
    result = import_directory(store, top, ignore=ignore)
    walk = Snapshot(store, result.root).walk()
    return {os.fsdecode(path[1:]) for path, entry in walk if not entry.is_dir}, result


def test_what_is_left_out_and_how_many(tmp_path: Path) -> None:
    top = make(tmp_path / "top", TREE)
    found, result = imported(top, Ignore(patterns("*.o", "!keep.o", "/other", "with space\\ ")))
    assert found == {"a", "c.txt", "dir/a", "dir/sub/a", "dir/sub/keep.o", "#odd", "x[1]"}
    assert result.left_out == 4  # a directory with all below it is one


def test_no_patterns_leave_out_nothing(tmp_path: Path) -> None:
    top = make(tmp_path / "top", [*TREE, ".treeringignore"])
    (top / ".treeringignore").write_text("*\n")
    found, result = imported(top, Ignore(files=False))
    assert found == {*TREE, ".treeringignore"}
    assert result.left_out == 0


def test_names_that_are_not_text(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for name in (b"\xff.o", b"\xffx", "ümlaut.o".encode(), b"plain"):
        (top / os.fsdecode(name)).touch()
    assert imported(top, Ignore(patterns("*.o")))[0] == {os.fsdecode(b"\xffx"), "plain"}
    assert imported(top, Ignore(patterns(os.fsdecode(b"\xff*"))))[0] == {"ümlaut.o", "plain"}


def test_a_directory_whose_content_is_left_out_stays(tmp_path: Path) -> None:
    top = make(tmp_path / "top", ["var/cache/a", "var/cache/b/c", "var/lib/x"])
    store = MemoryStore()
    for pattern in ("/var/cache/*", "/var/cache/**"):
        snapshot = Snapshot(store, import_directory(store, top, ignore=Ignore(patterns(pattern))).root)
        assert snapshot.lookup(b"var/cache").is_dir
        assert list(snapshot.directory(snapshot.lookup(b"var/cache"))) == []


@pytest.mark.parametrize("bad", ["!", "/", "ends with a backslash\\", "[a", "", "# a comment"])
def test_what_is_no_pattern_is_said_to_be_none(bad: str) -> None:
    with pytest.raises(BadInput, match=r"here: .* is not a pattern"):
        patterns("good", bad)


def test_a_bad_line_of_a_file_is_named(tmp_path: Path) -> None:
    top = make(tmp_path / "top", ["sub/a"])
    (top / "sub/.treeringignore").write_bytes(b"\xef\xbb\xbf# a comment\r\n\r\n*.o\r\n!\r\n")
    with pytest.raises(BadInput, match=r"^/sub/\.treeringignore, line 4: '!' is not a pattern"):
        imported(top, Ignore())
    assert list(patterns_in(b"\xef\xbb\xbfa\r\n \n#b\n\\#c\n", "f")) == [("f, line 1", "a"), ("f, line 4", "\\#c")]


def test_a_file_that_is_none_does_not_count(tmp_path: Path) -> None:
    top = make(tmp_path / "top", ["one/a", "two/a", "rules"])
    (top / "rules").write_text("a\n")
    (top / "one/.treeringignore").symlink_to("../rules")
    (top / "two/.treeringignore").mkdir()
    assert "one/a" in imported(top, Ignore())[0]


def test_what_the_caller_gives_decides_over_files(tmp_path: Path) -> None:
    top = make(tmp_path / "top", ["a", "b", "sub/a", "sub/b"])
    (top / ".treeringignore").write_text("a\n")
    (top / "sub/.treeringignore").write_text("!a\nb\n")
    files = {".treeringignore", "sub/.treeringignore"}
    assert imported(top, Ignore())[0] == {"b", "sub/a"} | files
    assert imported(top, Ignore(patterns("!a", "b")))[0] == {"a", "sub/a"} | files


# -- as git does

words = st.sampled_from(["a", "b", "*.o", "keep.o", "dir", "sub", "*", "**", "?", "x[1]", "[ab]", "other"])
lines = st.builds(
    lambda bang, slash, parts, end: f"{bang}{slash}{'/'.join(parts)}{end}",
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(words, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)
files = st.dictionaries(st.sampled_from(["", "dir", "dir/sub", "other"]), st.lists(lines, max_size=4), max_size=3)


@needs_git
@settings(max_examples=60)
@given(rules=files)
def test_as_git_does(tmp_path_factory: pytest.TempPathFactory, rules: dict[str, list[str]]) -> None:
    top = make(tmp_path_factory.mktemp("git") / "top", TREE)
    for directory, patterns_ in rules.items():
        for name in (".treeringignore", ".gitignore"):
            (top / directory / name).write_text("".join(line + "\n" for line in patterns_))
    subprocess.run(["git", "init", "-q", str(top)], check=True)
    # .git is git's own, and the two files may be left out by their own patterns
    command = ["git", "-C", str(top), "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
    expected = {
        os.fsdecode(name) for name in subprocess.run(command, capture_output=True, check=True).stdout.split(b"\0")
    }
    shutil.rmtree(top / ".git")
    found, _ = imported(top, Ignore())
    assert found == expected - {""}
    shutil.rmtree(top)


# -- archives


def archive(*names: str, links: dict[str, str] | None = None) -> io.BytesIO:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(member)
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            tar.addfile(member)
    data.seek(0)
    return data


def test_archives_are_filtered_too() -> None:
    store = MemoryStore()
    stream = archive("./a.o", "./a", "cache/", "cache/x", "cache/y/z", "/late/cache/x", links={"b": "a", "c.o": "a"})
    result = import_tar(stream, store, patterns=patterns("*.o", "cache/"))
    assert [path for path, _ in Snapshot(store, result.root).walk()] == [b"/", b"/a", b"/b"]
    assert result.left_out == 4


def test_a_hard_link_to_what_is_left_out_cannot_be_made() -> None:
    with pytest.raises(BadInput, match="which the patterns leave out"):
        import_tar(archive("a", links={"b": "a"}), MemoryStore(), patterns=patterns("/a"))


def test_a_selection_decides_on_all_above_a_path() -> None:
    selection = Selection(patterns("/a/b", "!/a/b/c"))
    assert not selection.has(b"a/b/c", is_dir=False)
    assert selection.has(b"a", is_dir=True)
    assert selection.has(b"", is_dir=True)
    assert selection.left_out == {b"/a/b"}
