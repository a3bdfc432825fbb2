"""log by path, time, words and content, and drawn; blame and grep: on a store with a little history and a merge."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.test_processes import completed
from tests.support.small_history import Sketch, make
from vcs.history import Author
from vcs.names import RefFiles
from vcs.store import Store


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """`main` is a merge of 1 and 2, which stand on 0; `old` is 0. Not to be changed."""
    directory = tmp_path_factory.mktemp("merged")
    same = {"bin/tool": b"\0same", "etc/one": b"1\nold\n"}
    sketches = [
        Sketch((), {**same, "etc/two": b"2\n"}, 0),
        Sketch((0,), {**same, "etc/one": b"1\nnew\n", "etc/two": b"2\n"}, 60),
        Sketch((0,), {**same, "etc/two": b"two\n"}, 120),
        Sketch((1, 2), {**same, "etc/one": b"1\nnew\n", "etc/two": b"two\n", "etc/three": b"3\nx\x1b[31m\n"}, 180),
    ]
    with Store.create(directory / "store") as store:
        made = make(store, sketches)
        ana = Author("Ana", "ana@example.org", 1_700_000_200)
        store.history.move("refs/heads/main", made.ids[3], None, "test", ana)
        store.history.move("refs/heads/old", made.ids[0], None, "test", ana)
        said = "number 4\n\nContainer: web\nCommand: sh -c 'echo x'\n"
        store.history.move("refs/heads/web", store.add_commit(
            store.commit(made.ids[1]).root, {}, said, Author("Bob", "bob@example.org", 1_700_000_240), (made.ids[0],)
        ), None, "test", ana)  # fmt: skip
    return Cli(directory / "store")


def titles(cli: Cli, *arguments: str) -> list[str]:
    found = [row["title"] for row in cli.json("log", *arguments)]
    assert [line.split(" number ")[1] for line in cli.lines("log", "--oneline", *arguments)] == [
        title.split()[1] for title in found
    ]
    return [title.removeprefix("number ") for title in found]


def test_log_of_paths(merged: Cli) -> None:
    assert titles(merged, "main", "--", "etc/one") == ["1", "0"]
    assert titles(merged, "main", "/etc/two") == ["2", "0"]
    assert titles(merged, "main", "/etc") == ["3", "2", "1", "0"]
    assert titles(merged, "main", "/bin", "/etc/three") == ["3", "0"]
    assert titles(merged, "old..main", "--", "etc/one") == ["1"]
    assert titles(merged, "main", "--", "none") == []
    assert titles(merged, "--", "etc/one") == ["4", "1", "0"], "without a revision, all branches"


def test_each_ref_is_read_once(merged: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that branches and tags lead to, the newest are known only when all of them were looked at."""
    read: list[bytes] = []
    loose = RefFiles._loose

    def counted(self: RefFiles, ref: bytes) -> bytes | None:
        read.append(ref)
        return loose(self, ref)

    monkeypatch.setattr(RefFiles, "_loose", counted)
    assert merged.lines("log", "--oneline", "-n", "2")[1].endswith("number 3")
    branches = [ref for ref in read if ref.startswith(b"refs/heads/")]
    assert sorted(branches) == [b"refs/heads/main", b"refs/heads/old", b"refs/heads/web"]


def test_links_above_a_path_are_followed(empty: Cli, tmp_path: Path) -> None:
    """As /bin may lead to /usr/bin. A link itself is not followed: it has a history of its own."""
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/bin").symlink_to("usr/bin")
    empty("init")
    for word in ("first", "second"):
        (tmp_path / "root/usr/bin/tool").write_text(word)
        empty("import", str(tmp_path / "root"), "-m", word)
    (tmp_path / "root/usr/bin/other").write_text("")
    empty("import", str(tmp_path / "root"), "-m", "third")
    expected = {"/bin/tool": ["second", "first"], "/bin": ["first"], "usr": ["third", "second", "first"]}
    for path, said in expected.items():
        assert [row["title"] for row in empty.json("log", "--", path)] == said
    assert empty.json("blame", "/bin/tool")[0]["title"] == "second"
    assert empty.lines("grep", "-l", "second", "main:/bin") == ["/usr/bin/tool"]
    assert empty.error("log", "--", "usr/../bin")["kind"] == "BadInput"


def test_log_by_time_words_and_people(merged: Cli) -> None:
    assert titles(merged, "main", "--since", "@1700000060", "--until", "@1700000120") == ["2", "1"]
    assert titles(merged, "main", "--until", "2023-11-14T22:13:20") == ["0"]
    assert titles(merged, "--author", "^Bob <bob@") == ["4"]
    assert titles(merged, "--grep", "^Container: web$") == ["4"]
    assert titles(merged, "main", "-n", "1", "--grep", "[12]") == ["2"]
    for arguments in (["--since", "soon"], ["--grep", "("], ["--author", "["], ["-S", "etc"]):
        assert merged.error("log", *arguments, code=2)["kind"] == "UsageError"


def test_log_by_content(merged: Cli) -> None:
    assert titles(merged, "main", "-S", "main:/etc/one") == ["1"]
    assert titles(merged, "main", "-S", "old:/etc/one") == ["1", "0"]
    digest = merged.json("ls", "-d", "main:/etc/two")[0]["digest"]
    assert titles(merged, "main", "-S", digest) == ["2"]
    assert titles(merged, "main", "-S", digest, "--", "bin") == []
    assert merged.error("log", "-S", "main:/etc")["kind"] == "BadInput"
    assert merged.error("log", "-S", "main:/none")["kind"] == "NotFound"


def test_log_graph(merged: Cli) -> None:
    lines = merged.lines("log", "--graph", "--oneline", "main")
    text = "\n".join(" ".join(word for word in line.split(" ") if len(word) != 12) for line in lines)
    assert text == "*  (main) number 3\n|\\\n| * number 2\n* | number 1\n|/\n* (old) number 0"


def test_a_graph_of_a_path_skips_what_did_not_change_it(merged: Cli) -> None:
    lines = merged.lines("log", "--graph", "--oneline", "main", "--", "etc/one")
    assert [(line[0], line.split()[-1]) for line in lines] == [("*", "1"), ("*", "0")]


def test_a_graph_with_whole_messages(merged: Cli) -> None:
    lines = merged.lines("log", "--graph", "main")
    assert lines[0].startswith("* ")
    assert lines[1].startswith("|\\  Merge:  ")
    assert lines[2].startswith("| | Author: Ana")
    assert sum("Author: Ana" in line for line in lines) == 4


def test_git_draws_the_same_commits(merged: Cli) -> None:
    git = ["git", "-C", str(merged.store / "history.git"), "log", "--format=%H"]
    ours = [row["commit"] for row in merged.json("log", "--graph")]
    theirs = subprocess.run([*git, "--all"], capture_output=True, text=True, check=True).stdout.split()
    assert ours == theirs


# -- blame


def test_blame_of_a_file(merged: Cli) -> None:
    (row,) = merged.json("blame", "web", "/etc/one")
    assert (row["name"], row["title"], row["container"], row["command"]) == ("one", "number 4", "web", "sh -c 'echo x'")
    assert row["author"] == {"name": "Bob", "email": "bob@example.org"}
    head, line = merged.lines("blame", "web:/etc/one")
    assert head.split() == ["COMMIT", "DATE", "AUTHOR", "CONTAINER", "COMMAND", "SUBJECT", "NAME"]
    assert line.split()[1:] == ["2023-11-14", "22:17", "Bob", "web", "sh", "-c", "'echo", "x'", "number", "4", "one"]
    assert merged.json("blame", "/etc/one")[0]["title"] == "number 1", "HEAD names main"
    assert merged.json("blame", "etc/two")[0]["title"] == "number 2"


def test_blame_of_a_directory(merged: Cli) -> None:
    rows = {row["name"]: row["title"][-1] for row in merged.json("blame", "main", "/etc")}
    assert rows == {"one": "1", "two": "2", "three": "3"}
    rows = {row["name"]: row["title"][-1] for row in merged.json("blame", "main", "/")}
    assert rows == {"bin": "0", "etc": "3"}
    assert [line.split()[-1] for line in merged.lines("blame", "main", "/")] == ["NAME", "bin/", "etc/"]


def test_blame_of_lines(merged: Cli) -> None:
    rows = merged.json("blame", "--lines", "main", "/etc/one")
    assert [(row["line"], row["text"], row["title"][-1]) for row in rows] == [(1, "1\n", "0"), (2, "new\n", "1")]
    lines = merged.lines("blame", "--lines", "main", "/etc/one")
    assert [line.split("(")[1] for line in lines] == [
        "Ana 2023-11-14 22:13:20 +0000 1) 1",
        "Ana 2023-11-14 22:14:20 +0000 2) new",
    ]
    assert "\x1b" not in "".join(merged.lines("blame", "--lines", "main", "/etc/three"))
    error = merged.error("blame", "--lines", "main", "/bin/tool")
    assert (error["kind"], "binary" in error["message"]) == ("BadInput", True)
    assert "without --lines" in error["advice"]


def test_blame_told_wrongly(merged: Cli) -> None:
    assert merged.error("blame", "main", "/none")["kind"] == "NotFound"
    assert merged.error("blame", "none", "/etc")["kind"] == "NotFound"
    assert merged.error("blame", "a", "b", "c", code=2)["kind"] == "UsageError"


# -- grep


def test_grep(merged: Cli) -> None:
    assert merged.lines("grep", "^[12]$", "main") == ["/etc/one:1"]
    assert merged.lines("grep", "-n", "w", "main:/etc") == ["/etc/one:2:new", "/etc/two:1:two"]
    assert merged.lines("grep", "-l", "w", "main", "old") == ["main:/etc/one", "main:/etc/two"]
    assert merged.lines("grep", "-c", "[1n]", "main:/etc/one", "old:/etc") == ["main:/etc/one:2", "old:/etc/one:1"]
    assert merged.lines("grep", "same", "main") == ["Binary file /bin/tool matches"]
    assert merged.lines("grep", "-i", "NEW", "main") == ["/etc/one:new"]
    assert merged.lines("grep", "-F", "[31m", "main:/etc/three") == ["/etc/three:x\x1b[31m"]
    merged("grep", "-w", "ne", "main", code=1)
    merged("grep", "none", "main", code=1)


def test_grep_for_programs(merged: Cli) -> None:
    assert merged.json("grep", "new|same", "main") == [
        {"revision": "main", "path": "/bin/tool", "binary": True, "line": None, "text": None},
        {"revision": "main", "path": "/etc/one", "binary": False, "line": 2, "text": "new"},
    ]
    assert merged.json("grep", "-l", "new", "main") == [{"revision": "main", "path": "/etc/one", "binary": False}]
    rows = merged.json("grep", "-c", "new|same", "main")
    assert [(row["path"], row["count"]) for row in rows] == [("/bin/tool", None), ("/etc/one", 1)]
    assert merged.json("grep", "none", "main", code=1) == []


def test_grep_told_wrongly(merged: Cli) -> None:
    assert merged.error("grep", "(", "main")["kind"] == "BadInput"
    assert merged.error("grep", "x", "main:/none")["kind"] == "NotFound"
    assert merged.error("grep", "-l", "-c", "x", "main", code=2)["kind"] == "UsageError"
    assert merged.error("grep", "x", code=2)["kind"] == "UsageError"


def test_completion(merged: Cli, tmp_path: Path) -> None:
    assert completed(merged, "treering blame old:/etc/t") == ["/etc/two"]
    assert completed(merged, "treering grep x ol") == ["old:"]
    assert "--since" in completed(merged, "treering log --")


def test_trailers_say_where_an_import_came_from_and_who_asked(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "my root"
    root.mkdir()
    cli("import", str(root), "-b", "new", "-m", "title\n\nbody", env={"SUDO_UID": "65534", "SUDO_USER": "somebody"})
    expected = {"Source": str(root)} | ({"User": "nobody (65534), by sudo"} if os.geteuid() == 0 else {})
    info = cli.json("show", "new")
    assert info["trailers"] == expected
    assert info["message"].startswith("title\n\nbody\n\nSource: ")
    assert all(f"    {name}: {value}\n" in cli("log", "new").stdout for name, value in expected.items())
    archive = tmp_path / "root.tar"
    cli("export", "main", str(archive))
    cli("import", str(archive), "-b", "other2", env={"SUDO_UID": "0"})
    assert cli.json("show", "other2")["trailers"] == {"Source": str(archive)}
    cli("import", "-", "-b", "other3", input=archive.read_bytes())
    assert cli.json("show", "other3")["trailers"] == {"Source": "standard input"}
    cli("merge", "other", "--no-ff", "--theirs", env={"SUDO_UID": "65534"})
    assert cli.json("show", "main")["trailers"].get("User") == expected.get("User")
