"""note; and notes in log and show."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cli.conftest import Cli


def git(cli: Cli, *words: str) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(cli.store / "history.git"), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_note_is_written_added_to_shown_and_removed(cli: Cli, tmp_path: Path) -> None:
    assert cli.lines("note", "list") == []
    cli("note", "add", "-m", "tested", "-m", "on Monday", "main")
    assert cli.lines("note", "show", "main") == ["tested", "", "on Monday"] == cli.lines("note", "show")
    assert git(cli, "notes", "show", "main") == "tested\n\non Monday\n"
    file = tmp_path / "report"
    file.write_text("from a file\n")
    cli("note", "append", "-F", str(file), "main")
    cli("note", "append", "-F", "-", "main~1", input="from a pipe\n")
    rows = {row["commit"]: row["note"] for row in [*map(dict, _rows(cli))]}
    assert set(rows.values()) == {"tested\n\non Monday\n\nfrom a file\n", "from a pipe\n"}
    assert sorted(line.split(" ", 1)[1] for line in cli.lines("note", "list")) == ["from a pipe", "tested"]
    error = cli.error("note", "add", "-m", "again", "main")
    assert error["kind"] == "AlreadyExists"
    assert "--force" in error["advice"]
    cli("note", "add", "--force", "-m", "again", "main")
    cli("note", "remove", "--dry-run", "main")
    assert cli.lines("note", "show", "main") == ["again"]
    cli("note", "remove", "main")
    assert cli.error("note", "show", "main")["kind"] == "NotFound"
    assert cli.error("note", "remove", "main")["kind"] == "NotFound"
    assert cli.error("note", "remove", "--dry-run", "main")["kind"] == "NotFound"


def _rows(cli: Cli) -> list[dict[str, str]]:
    import json

    return [json.loads(line) for line in cli.lines("note", "list", "--format", "jsonl")]


def test_log_and_show_print_notes_as_git_does(cli: Cli) -> None:
    cli("note", "add", "-m", "tested", "main")
    for text in (cli("log", "main").stdout, cli("show", "main").stdout, git(cli, "log", "main")):
        assert "\n\nNotes:\n    tested\n" in text
    for words in (("log", "--no-notes", "main"), ("show", "--no-notes", "main"), ("log", "--oneline", "main")):
        assert "tested" not in cli(*words).stdout
    assert "| Notes:\n|     tested" in cli("log", "--graph", "main").stdout
    assert [row["note"] for row in cli.json("log", "main")] == ["tested\n", None]
    assert cli.json("show", "main")["note"] == "tested\n"
    cli("branch", "-d", "other")
    assert len(cli.lines("log", "--oneline")) == 2, "what holds notes is no commit of anybody's"


def test_undo_takes_a_note_back(cli: Cli) -> None:
    cli("note", "add", "-m", "one", "main")
    cli("note", "append", "-m", "two", "main")
    text = cli("undo").stderr
    assert "notes commits" in text
    assert cli.lines("note", "show", "main") == ["one"]
    cli("undo")
    cli("note", "show", "main", code=125)
    cli("redo")
    assert cli.lines("note", "show", "main") == ["one"]


def test_a_command_line_that_says_nothing_is_refused(cli: Cli, tmp_path: Path) -> None:
    cli("note", "add", "main", code=2)
    cli("note", "add", "-m", "a", "-F", "-", "main", code=2)
    assert cli.error("note", "add", "-m", " ", "main")["kind"] == "BadInput"
    file = tmp_path / "binary"
    file.write_bytes(b"\xff\xfe")
    assert cli.error("note", "add", "-F", str(file), "main")["kind"] == "BadInput"
    assert cli.error("note", "add", "-F", str(tmp_path / "missing"), "main")["kind"] == "FileNotFoundError"
    assert git(cli, "for-each-ref", "refs/notes") == ""


def test_gc_fsck_and_forget_do_with_notes(cli: Cli) -> None:
    """A note follows a commit that is written again on other parents."""
    cli("note", "add", "-m", "about main", "main")
    cli("branch", "-d", "other")
    cli("tag", "-d", "v1")
    before = git(cli, "rev-parse", "main").strip()
    cli("forget", "--keep-last", "1", "main")
    after = git(cli, "rev-parse", "main").strip()
    assert before != after
    assert cli.lines("note", "show", "main") == ["about main"]
    assert git(cli, "notes", "show", after) == "about main\n"
    cli("gc", "--expire", "now")
    cli("fsck", "--read-data")
    cli("du")
    cli("stats", "--store")
    assert cli.lines("note", "show", "main") == ["about main"]
    assert git(cli, "fsck", "--strict", "--no-dangling") == ""
