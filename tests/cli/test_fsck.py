"""fsck as a command: what it tells, in which form, and its exit codes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)


def largest(cli: Cli) -> Path:
    return max((cli.store / "layers").glob("*.layer"), key=lambda path: path.stat().st_size)


def test_a_store_that_is_whole(cli: Cli) -> None:
    assert "no damage" in cli("fsck").stderr
    result = cli("fsck", "--read-data")
    assert (result.stdout, "of layers read: no damage" in result.stderr) == ("", True)
    found = cli.json("fsck")
    assert (found["problems"], found["commits"], found["affected"], found["bytes_read"]) == ([], 3, 0, 0)


def test_damage_is_told_by_commit_and_path(cli: Cli) -> None:
    flip(largest(cli), 1000)
    assert "no damage" in cli("fsck").stderr, "a quick check does not read the contents of files"
    result = cli("fsck", "--read-data", code=1)
    assert "damaged: layer " in result.stdout
    (problem,) = [found for found in cli.json("fsck", "--read-data", code=1)["problems"] if found["kind"] == "object"]
    assert set(problem) == {"kind", "message", "commit", "path", "others", "layer", "object"}
    assert problem["path"] == "/bin/busybox"
    assert problem["layer"] == largest(cli).stem
    assert f"{problem['commit'][:12]}:/bin/busybox: " in result.stdout
    assert "3 commits cannot be read in full" in result.stderr
    assert len(cli("fsck", "--read-data", "--format", "jsonl", code=1).stdout.splitlines()) == 2


def test_an_index_that_is_damaged_is_told_once(cli: Cli) -> None:
    flip(cli.store / "index.db", 20)
    problems = cli.json("fsck", code=1)["problems"]
    assert {problem["kind"] for problem in problems} == {"index"}
    assert "no damage" in cli("fsck").stderr
    flip(cli.store / "index.db", 20)
    assert "no damage" in cli("fsck", "--rebuild-index").stderr


def test_repair_takes_what_is_lost_from_a_directory(cli: Cli, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    cli("export", "main", str(tmp_path / "out"))
    shutil.copytree(cli.store, copy)
    flip(largest(cli), 1000)
    assert "could be restored" in cli("fsck", "--repair", "--from", str(tmp_path / "out"), "--dry-run", code=1).stderr
    result = cli("fsck", "--repair", "--from", str(tmp_path / "out"))
    assert "1 object restored" in result.stderr
    assert "layers/damaged-" in result.stderr
    assert "no damage" in cli("fsck", "--read-data").stderr
    assert cli.json("fsck", "--repair", "--from", str(copy))["repaired"] == {
        "objects": 0,
        "layers_aside": [],
        "others": [],
    }


def test_what_cannot_be_repaired_is_an_exit_code(cli: Cli, tmp_path: Path) -> None:
    flip(largest(cli), 1000)
    result = cli("fsck", "--repair", "--from", str(tmp_path), code=1)
    assert "/bin/busybox" in result.stdout


def test_the_record_of_a_container_is_checked(cli: Cli) -> None:
    directory = cli.store / "containers" / ("0" * 64)
    directory.mkdir(parents=True)
    (directory / "record.json").write_text("{")
    (problem,) = cli.json("fsck", code=1)["problems"]
    assert problem["kind"] == "container"


def test_repair_keeps_a_container_again_whose_ref_is_lost(cli: Cli) -> None:
    cli("create", "--name", "web", "main")
    for kind in ("refs", "logs/refs"):
        (file,) = (cli.store / "history.git" / kind / "containers").glob("*/0")
        file.unlink()
    assert "no ref that keeps generation 0 of 'web'" in cli("fsck", code=1).stdout
    assert "Repaired: generation 0 of container 'web' is kept again" in cli("fsck", "--repair").stderr
    assert "no damage" in cli("fsck", "--read-data").stderr
    cli("branch", "-f", "main", "main~1")
    cli("gc", "--expire", "now")
    assert "no damage" in cli("fsck", "--read-data").stderr


@pytest.mark.parametrize("arguments", [["--from", "."], ["--dry-run"], ["--repair", "--from", "missing"]])
def test_options_that_make_no_sense(cli: Cli, arguments: list[str]) -> None:
    cli("fsck", *arguments, code=2)


def test_what_is_no_store_cannot_be_checked(empty: Cli) -> None:
    assert empty.error("fsck")["kind"] == "NotAStore"
    assert empty.error("fsck", "--repair")["kind"] == "NotAStore"
