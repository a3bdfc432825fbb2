"""log, show, diff, branch, tag, reflog, ls, cat on a store with a little history."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import Cli
from vcs.history import Author
from vcs.store import Store


def test_log(cli: Cli) -> None:
    text = cli("log", "main").stdout
    assert "Author: Ada Tester <ada@example.org>" in text
    assert text.index("    second") < text.index("    first")
    assert "    With a body." in text
    assert "(main, tag: v1)" in text


def test_log_oneline_and_limits(cli: Cli) -> None:
    assert [line.split(" ", 1)[1] for line in cli.lines("log", "--oneline", "main")] == [
        "(main, tag: v1) second",
        "first",
    ]
    assert len(cli.lines("log", "--oneline", "-n", "1", "main")) == 1
    assert len(cli.lines("log", "--oneline")) == 3, "without a revision, all branches"
    assert [line.split()[-1] for line in cli.lines("log", "--oneline", "main..other")] == ["third"]


def test_log_for_programs(cli: Cli) -> None:
    rows = [json.loads(line) for line in cli.lines("log", "--format", "jsonl", "main")]
    assert [row["title"] for row in rows] == ["second", "first"]
    assert rows[0]["parents"] == [rows[1]["commit"]]
    assert rows[0]["tags"] == ["v1"]
    assert rows == cli.json("log", "main")


def test_git_agrees(cli: Cli) -> None:
    """The history is git's: stock git says the same."""
    git = ["git", "-C", str(cli.store / "history.git")]
    ids = subprocess.run(
        [*git, "log", "--format=%H", "main"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert ids == [row["commit"] for row in cli.json("log", "main")]
    subprocess.run([*git, "fsck", "--strict"], check=True, capture_output=True)


def test_show(cli: Cli) -> None:
    text = cli("show", "main").stdout
    assert text.startswith("commit ")
    assert "M  /etc/motd\n" in text
    assert "A  /etc/added\n" in text
    assert "Cmd:         /bin/sh" in text
    first = cli("show", "main~1").stdout
    assert "Holds:" in first
    assert "A  /" not in first, "a first commit is not listed file by file"
    value = cli.json("show", "main")
    assert {change["path"]: change["status"] for change in value["changes"]} == {
        "/etc/added": "A",
        "/etc/motd": "M",
        "/etc/passwd": "M",
    }
    assert value["config"]["config"]["Cmd"] == ["/bin/sh"]


def test_diff(cli: Cli) -> None:
    expected = ["A  /etc/added", "M  /etc/motd", "M  /etc/passwd  (mode 644 -> 600)"]
    assert cli.lines("diff", "main~1", "main") == expected
    assert cli.lines("diff", "main~1..main") == expected
    assert cli.lines("diff", "main") == expected, "one commit: what it changed"
    assert cli.lines("diff", "main~1", "main", "/etc/motd") == expected[1:2]
    assert cli.lines("diff", "main~1", "main", "--", "etc/motd") == expected[1:2]
    assert cli.lines("diff", "main", "main") == []


def test_diff_stat_counts_lines(cli: Cli) -> None:
    assert cli.lines("diff", "--stat", "main~1", "main") == [
        " /etc/added  | Bin 0 -> 256 bytes",
        " /etc/motd   | 3 ++-",
        " /etc/passwd | mode 644 -> 600",
        " 3 entries changed, 2 insertions(+), 1 deletion(-)",
    ]
    counts = {row["path"]: row for row in cli.json("diff", "--stat", "main~1", "main")}
    assert (counts["/etc/motd"]["insertions"], counts["/etc/motd"]["deletions"]) == (2, 1)
    assert counts["/etc/added"]["binary"] is True


def test_diff_patch(cli: Cli) -> None:
    lines = cli.lines("diff", "-p", "main~1", "main", "/etc/motd")
    assert lines[:3] == ["M  /etc/motd", "--- a/etc/motd", "+++ b/etc/motd"]
    assert "-two" in lines
    assert "+2" in lines


def test_diff_names(cli: Cli) -> None:
    assert cli.lines("diff", "--name-status", "main~1", "main") == ["A\t/etc/added", "M\t/etc/motd", "M\t/etc/passwd"]
    assert cli.lines("diff", "--name-only", "main~1", "main")[0] == "/etc/added"
    assert cli.process("diff", "-z", "main~1", "main", "/etc/motd").stdout == b"M\0/etc/motd\0"


def test_diff_exit_code(cli: Cli) -> None:
    cli("diff", "--exit-code", "main", "v1")
    cli("diff", "--exit-code", "main~1", "main", code=1)
    assert cli.error("diff", "--exit-code", "nope", "main")["kind"] == "NotFound"


def test_odd_names_in_every_format(cli: Cli) -> None:
    assert cli.lines("diff", "main", "other", "--name-only")[-1] == '"/odd\\nname\\377"'
    row = cli.json("diff", "main", "other")[-1]
    assert bytes.fromhex(row["path_bytes"]) == b"/odd\nname\xff"
    assert b"/odd\nname\xff\0" in cli.process("diff", "-z", "--name-only", "main", "other").stdout
    assert '"odd\\nname\\377"' in cli.lines("ls", "other:/")
    assert b"odd\nname\xff\0" in cli.process("ls", "-z", "other:/").stdout


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("log", "nope"), "NotFound"),
        (("log", ""), "NotFound"),
        (("show", "main~9"), "NotFound"),
        (("diff", "main~1"), "NotFound"),
        (("ls", "main:/nope"), "NotFound"),
        (("ls", ":/etc"), "BadInput"),
        (("cat", "main:/etc"), "BadInput"),
        (("cat", "main:/nope"), "NotFound"),
        (("branch", "main"), "AlreadyExists"),
        (("branch", "a..b"), "InvalidName"),
        (("branch", "--", "-d"), "InvalidName"),
        (("branch", "HEAD"), "InvalidName"),
        (("branch", "-d", "nope"), "NotFound"),
        (("tag", "v1"), "AlreadyExists"),
        (("tag", "a b"), "InvalidName"),
        (("tag", "-d", "nope"), "NotFound"),
        (("reflog", "nope"), "NotFound"),
        (("status", "nope"), "NotFound"),
        (("init",), "AlreadyExists"),
    ],
)
def test_errors_have_a_kind_and_advice(cli: Cli, arguments: tuple[str, ...], kind: str) -> None:
    error = cli.error(*arguments)
    assert error["kind"] == kind
    assert "b'/" not in error["message"], "paths are for people"


@pytest.mark.parametrize(
    "arguments",
    [
        ("diff", "main", "other", "etc"),
        ("cat", "main"),
        ("branch", "-d"),
        ("branch", "-d", "-m", "x", "y"),
        ("branch", "-m", "main"),
        ("tag", "-d"),
        ("rollback", "web"),
        ("rollback", "web", "main", "--undo"),
        ("export", "main", "dir", "-o", "file"),
        ("commit", "web"),
        ("log", "-n", "many"),
        ("diff",),
    ],
)
def test_wrong_command_lines(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli.error(*arguments, code=2)["kind"] == "UsageError"


def test_branches(cli: Cli) -> None:
    cli("branch", "exp", "main~1")
    assert [line.split()[0] for line in cli.lines("branch")] == ["exp", "main", "other"]
    moved = cli("branch", "-f", "exp", "main").stderr
    assert "back: treering branch -f exp " in moved
    cli(*moved.strip().split("back: treering ")[1].split())
    assert _commit(cli, "exp") == _commit(cli, "main~1")
    cli("branch", "-m", "exp", "renamed")
    assert {row["name"] for row in cli.json("branch")} == {"main", "other", "renamed"}
    cli("branch", "-d", "--dry-run", "renamed")
    deleted = cli("branch", "-d", "renamed").stderr
    assert "renamed" not in {row["name"] for row in cli.json("branch")}
    cli(*deleted.strip().split("back: treering ")[1].split())
    assert _commit(cli, "renamed") == _commit(cli, "main~1")


def test_tags(cli: Cli) -> None:
    cli("tag", "plain", "main~1")
    assert [row["name"] for row in cli.json("tag")] == ["plain", "v1"]
    cli("tag", "-f", "plain", "main")
    assert _commit(cli, "plain") == _commit(cli, "main")
    cli("tag", "-d", "v1")
    assert [line.split()[0] for line in cli.lines("tag")] == ["plain"]


def test_reflog(cli: Cli) -> None:
    rows = cli.json("reflog", "main")
    assert [row["message"] for row in rows] == ["import: second", "import: first"]
    assert rows[0]["old"] == rows[1]["new"]
    assert cli.lines("reflog")[0].split()[1] == "main@{0}:"
    assert _commit(cli, "main@{1}") == _commit(cli, "main~1")


def test_ls(cli: Cli) -> None:
    assert "busybox" in cli.lines("ls", "main:/bin")
    assert "etc" in cli.lines("ls", "main")
    long = next(line for line in cli.lines("ls", "-l", "main:/bin") if "link" in line)
    assert long.startswith("lrwxrwxrwx")
    assert long.endswith("link -> busybox")
    assert " root root " in long, "names are those of the commit's own /etc/passwd"
    assert cli.lines("ls", "-d", "main:/etc") == ["/etc"]
    assert "/etc/motd" in cli.lines("ls", "-R", "main:/etc")
    row = next(row for row in cli.json("ls", "main:/etc") if row["path"] == "/etc/motd")
    assert (row["type"], row["mode"], row["size"]) == ("file", "0644", 17)


def test_cat_follows_links_inside_the_commit(cli: Cli) -> None:
    assert cli("cat", "main:/etc/motd").stdout == "one\n2\nthree\nfour\n"
    both = cli.process("cat", "main~1:etc/motd", "main:/etc/added").stdout
    assert both == b"one\ntwo\nthree\n" + bytes(range(256))
    assert cli.process("cat", "main:/bin/link").stdout[:4] == b"\x7fELF"


def _commit(cli: Cli, revision: str) -> Any:
    return cli.json("show", revision)["commit"]


def test_a_rename_that_was_killed_half_way_is_gone_on_with(cli: Cli) -> None:
    with Store.open(cli.store) as store:
        commit = store.history.target("refs/heads/other")
        assert commit is not None
        author = Author("Ada Tester", "ada@example.org", 1_700_000_000)
        store.history.move("refs/heads/new", commit, None, "branch: renamed other to new", author)
    assert "exists already" in cli("branch", "-m", "main", "new", code=125).stderr
    cli("branch", "-m", "other", "new")
    assert [line.split()[0] for line in cli.lines("branch")][-2:] == ["main", "new"]
