"""Hooks in a store: what they are told, what they may refuse, and which are run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runtime.storehooks import HELD, Event, run_after, run_before
from tests.cli.conftest import PROJECT, Cli
from tests.support.containers import is_gone
from vcs.diff import Change
from vcs.errors import HookRefused
from vcs.model import CommitId

TREERING = f"timeout 60 env PYTHONPATH={PROJECT} TREERING_FORK_SERVER=0 {sys.executable} -P -m runtime.cli"


def hook(cli: Cli, name: str, script: str) -> Path:
    """Write a hook. What it writes to "$OUT" is in the file that is returned."""
    folder = cli.store / "hooks"
    folder.mkdir(mode=0o755, exist_ok=True)
    out = cli.store.parent / f"{name}.out"
    path = folder / name
    path.write_text(f"#!/bin/sh\nOUT={out}\n{script}\n")
    path.chmod(0o755)
    return out


def imported(cli: Cli, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """Import something new into `main`, by a process of its own."""
    root = cli.store.parent / "new"
    root.mkdir(exist_ok=True)
    (root / "file").write_bytes(os.urandom(8))
    done: subprocess.CompletedProcess[bytes] = cli.process("import", str(root), "-m", "new", **settings)
    return done


def tip(cli: Cli, revision: str = "main") -> str:
    return cli.json("log", "-n1", revision)[0]["commit"]


def test_what_is_told_of_a_running_containers_commit(box: Cli) -> None:
    assert box.process("run", "-d", "--name", "c", "--network", "none", "main", "sleep", "1000").returncode == 0
    assert box.process("exec", "c", "sh", "-c", "echo 1 >/etc/new; echo 2 >/etc/motd").returncode == 0
    told = hook(
        box, "pre-commit",
        f"""
        cat >"$OUT"
        env | grep ^TREERING_ | sort >"$OUT.env"
        {TREERING} diff --name-status -z "$TREERING_PARENT" "$TREERING_COMMIT" >"$OUT.diff"
        {TREERING} cat "$TREERING_COMMIT:/etc/new" >"$OUT.cat"
        {TREERING} log --oneline main >"$OUT.log"
        {TREERING} exec c true && echo it goes on
        """,
    )  # fmt: skip
    after = hook(box, "post-commit", f'{TREERING} log --format=jsonl -n1 side >"$OUT"')
    head = tip(box)
    done = box.process("commit", "c", "-b", "side", "-m", "why")
    assert done.returncode == 0, done.stderr
    commit = done.stdout.decode().strip()
    assert b"pre-commit: it goes on" in done.stderr
    assert told.read_bytes() == b"M\0/etc/motd\0A\0/etc/new\0" == Path(f"{told}.diff").read_bytes()
    variables = dict(line.split("=", 1) for line in Path(f"{told}.env").read_text().splitlines())
    identity = variables.pop(HELD)
    assert len(identity) == 64
    assert variables == {
        "TREERING_BRANCH": "side", "TREERING_COMMIT": commit, "TREERING_CONTAINER": "c", "TREERING_HOOK": "pre-commit",
        "TREERING_PARENT": head, "TREERING_STORE": str(box.store),
    }  # fmt: skip
    assert Path(f"{told}.cat").read_text() == "1\n"
    assert commit in after.read_text(), "the commit is there when the hook after it runs"


def test_a_refusal_loses_nothing(box: Cli) -> None:
    script = "echo 1 >/etc/new"
    assert box.process("run", "--name", "c", "--network", "none", "main", "sh", "-c", script).returncode == 0
    hook(box, "pre-commit", "echo looked; echo 'no, since it is Friday' >&2; exit 3")
    after = hook(box, "post-commit", 'echo "$TREERING_COMMIT" >>"$OUT"')
    before, operations = box.json("branch"), len(box.lines("op", "log"))
    error = box.error("commit", "c", "-b", "side", "-m", "why")
    assert error["kind"] == "HookRefused"
    assert error["message"].endswith("(exit code 3), so nothing was changed: looked\nno, since it is Friday")
    assert "--no-verify" in error["advice"]
    assert error["facts"]["code"] == 3
    assert box.json("branch") == before
    assert len(box.lines("op", "log")) == operations
    assert "A  /etc/new" in box.lines("status", "c")
    assert not after.exists()
    commit = box.lines("commit", "c", "-b", "side", "-m", "why", "--no-verify")[0]
    assert after.read_text() == commit + "\n", "a hook that can refuse nothing runs all the same"
    assert box.lines("status", "c") == []
    box("commit", "c", "-m", "nothing has changed, and nobody is asked")


def test_automatic_commits_are_judged_too(box: Cli) -> None:
    started = box.process("run", "-d", "--autocommit", "exec", "--name", "c", "--network", "none", "main",
                          "sleep", "1000")  # fmt: skip
    assert started.returncode == 0
    hook(box, "pre-commit", "grep -qz /etc/forbidden && echo never that && exit 1; exit 0")
    assert box.process("exec", "c", "touch", "/etc/allowed").returncode == 0
    assert box.lines("log", "--oneline", "-n1", "c")[0].endswith("touch /etc/allowed")
    refused = box.process("exec", "c", "touch", "/etc/forbidden")
    assert refused.returncode == 125
    assert b"never that" in refused.stderr
    assert box.lines("log", "--oneline", "-n1", "c")[0].endswith("touch /etc/allowed")
    assert "A  /etc/forbidden" in box.lines("status", "c")


def test_a_hook_cannot_change_the_container_that_waits_for_it(box: Cli) -> None:
    assert box.process("run", "--name", "c", "--network", "none", "main", "touch", "/new").returncode == 0
    commands = ("commit c -m again", "rm -f c", "rollback c main", "forget main --keep-last 1")
    script = "\n".join(f'{TREERING} {command} >>"$OUT" 2>&1; echo "= $?" >>"$OUT"' for command in commands)
    out = hook(box, "pre-commit", script)
    done = box.process("commit", "c", "-m", "once")
    assert done.returncode == 0, done.stderr
    lines = out.read_text().splitlines()
    assert [line for line in lines if line.startswith("= ")] == ["= 125"] * len(commands)
    assert sum("is being committed, which waits for this hook" in line for line in lines) == len(commands)


def test_forks_and_promotions_are_commits(box: Cli) -> None:
    assert box.process("run", "--name", "c", "--network", "none", "main", "touch", "/new").returncode == 0
    hook(box, "pre-commit", "exit 1")
    hook(box, "post-commit", "echo told")
    before = box.json("branch")
    for arguments in (("fork", "c"), ("promote", "c", "-b", "side"), ("promote", "c", "-b", "other", "--force")):
        assert box.error(*arguments)["kind"] == "HookRefused"
    assert box.json("branch") == before
    assert len(box.lines("ps", "-aq")) == 1
    done = box("promote", "c", "-b", "side", "--no-verify")
    assert "post-commit: told" in done.stderr
    box("fork", "c")  # all of it is committed by now


def test_rollbacks(box: Cli) -> None:
    assert box.process("run", "--name", "c", "--network", "none", "main", "touch", "/new").returncode == 0
    out = hook(box, "post-rollback", 'echo "$TREERING_CONTAINER $TREERING_PARENT $TREERING_COMMIT" >>"$OUT"')
    main, older = tip(box), tip(box, "main~1")
    box("rollback", "c", "main~1", "--dry-run")
    box("rollback", "c", "main~1")
    box("rollback", "c", "--undo")
    assert out.read_text().splitlines() == [f"c {main} {older}", f"c {older} {main}"]


def test_imports(cli: Cli) -> None:
    out = hook(cli, "pre-commit", 'env | grep -c CONTAINER >"$OUT"; tr "\\0" "\\n" >>"$OUT"')
    after = hook(cli, "post-commit", 'cat >"$OUT"')
    before = tip(cli)
    assert imported(cli).returncode == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "0"
    assert lines[lines.index("/file") - 1] == "A"
    assert lines[lines.index("/etc/motd") - 1] == "D"
    assert after.read_bytes().replace(b"\0", b"\n").decode().splitlines() == lines[1:]
    assert cli.process("import", str(cli.store.parent / "new"), "-b", "first", "-m", "1").returncode == 0
    assert out.read_text() == "0\nA\n/file\n", "of a first commit, everything is new"
    hook(cli, "pre-commit", "exit 1")
    now = tip(cli)
    assert now != before
    assert imported(cli).returncode == 125
    assert tip(cli) == now
    cli("import", str(cli.store.parent / "new"), "-m", "all the same", "--no-verify")
    assert tip(cli, "main~1") == now


def test_merges(cli: Cli) -> None:
    out = hook(cli, "pre-merge-commit", 'tr "\\0" " " >"$OUT"; test -e "$OUT.yes"')
    after = hook(cli, "post-merge", 'echo "$TREERING_BRANCH $TREERING_PARENT $TREERING_COMMIT" >>"$OUT"')
    hook(cli, "pre-commit", "exit 1")
    main = tip(cli)
    assert cli.error("merge", "other", "--theirs")["kind"] == "HookRefused"
    assert b"A /odd\nname\xff " in out.read_bytes()
    assert tip(cli) == main
    cli("merge", "other", "--theirs", "--dry-run")
    assert not after.exists()
    cli("merge", "other", "--theirs", "--no-verify")
    merged = tip(cli)
    Path(f"{out}.yes").touch()
    told = cli.json("revert", "main~1")["hooks"]
    assert told == [{"hook": name, "exit_code": 0, "output": ""} for name in ("pre-merge-commit", "post-merge")]
    cli("branch", "old", "main~2")
    cli("merge", "main", "--on", "old")
    moved = [line.split() for line in after.read_text().splitlines()]
    assert moved[:2] == [["main", main, merged], ["main", merged, tip(cli)]]
    assert moved[2][::2] == ["old", tip(cli)], "a fast-forward"
    cli("merge", "main", "--on", "old")
    assert len(after.read_text().splitlines()) == 3, "there was nothing to do"


def test_a_hook_that_fails_afterwards_is_a_warning(cli: Cli) -> None:
    hook(cli, "post-commit", "echo one; echo two >&2; exit 4")
    before = tip(cli)
    done = imported(cli)
    assert done.returncode == 0
    assert b"warning: the hook post-commit failed with exit code 4: one\ntwo\n" in done.stderr
    assert tip(cli, "main~1") == before
    path = cli.store / "hooks/post-commit"
    path.write_bytes(b"not a program")
    assert b"cannot be run: Exec format error; does it begin with `#!`?" in imported(cli).stderr
    (cli.store / "hooks/pre-commit").write_bytes(b"not a program")
    (cli.store / "hooks/pre-commit").chmod(0o755)
    assert imported(cli).returncode == 125, "nor does one that cannot be run allow anything"


def _group(cli: Cli, path: Path) -> str:
    path.chmod(0o775)
    return f"others can write {path}: chmod go-w {path}"


def _all(cli: Cli, path: Path) -> str:
    path.parent.chmod(0o777)
    return f"others can write {path.parent}"


def _store(cli: Cli, path: Path) -> str:
    cli.store.chmod(0o770)
    return f"others can write {cli.store}"


def _owner(cli: Cli, path: Path) -> str:
    os.chown(path, 1234, -1)
    return f"{path} belongs to user 1234, and only root's and your own are run"


def _plain(cli: Cli, path: Path) -> str:
    path.chmod(0o644)
    return f"{path} is not executable: chmod +x {path}"


def _link(cli: Cli, path: Path) -> str:
    path.rename(path.with_suffix(".sh"))
    path.symlink_to(path.with_suffix(".sh"))
    return f"{path} is no regular file"


@pytest.mark.parametrize("spoil", [_group, _all, _store, _owner, _plain, _link])
def test_what_others_could_have_placed_there_is_not_run(cli: Cli, spoil: Callable[[Cli, Path], str]) -> None:
    out = hook(cli, "pre-commit", 'touch "$OUT"; exit 1')
    why = spoil(cli, cli.store / "hooks/pre-commit")
    done = imported(cli)
    assert done.returncode == 0
    assert f"warning: the hook pre-commit was not run: {why}" in done.stderr.decode()
    assert not out.exists()


def test_surroundings_are_the_same_for_everybody(cli: Cli) -> None:
    out = hook(
        cli, "pre-commit", 'pwd >"$OUT"; env | grep -v TREERING_ | cut -d= -f1 | sort >>"$OUT"; umask >/dev/null'
    )
    assert imported(cli, env={"LD_PRELOAD": "", "SECRET": "1"}).returncode == 0
    assert out.read_text().split() == ["/", "LC_ALL", "PATH", "PWD"]


def test_nobody_waits_for_what_a_hook_leaves_running(cli: Cli) -> None:
    out = hook(cli, "pre-commit", 'sleep 1000 & echo $! >"$OUT"; echo done')
    try:
        done = imported(cli)
        assert done.returncode == 0
        assert b"pre-commit: done" in done.stderr
    finally:
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(out.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("trap", ["", "trap '' TERM"])
def test_who_interrupts_ends_the_hook(cli: Cli, trap: str, until: Callable[..., Any]) -> None:
    out = hook(cli, "pre-commit", f'{trap}\necho $$ >"$OUT.new"; mv "$OUT.new" "$OUT"; exec sleep 1000')
    root = cli.store.parent / "new"
    root.mkdir()
    before = tip(cli)
    process = cli.start("import", str(root), "-m", "new", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        until(out.exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        until(lambda: is_gone(int(out.read_text())))  # killed, but perhaps nobody has waited for it yet
    finally:
        process.kill()
        process.wait()
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int(out.read_text()), signal.SIGKILL)
    assert tip(cli) == before


def test_a_store_without_hooks_pays_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    lstat = Path.lstat

    def counted(path: Path) -> os.stat_result:
        looked.append(path)
        return lstat(path)

    def changes() -> list[Change]:
        raise AssertionError("nobody wants to know")

    monkeypatch.setattr(Path, "lstat", counted)
    event = Event(CommitId("0" * 40), None, changes=changes)
    assert run_before(tmp_path, "pre-commit", event) == () == run_after(tmp_path, "post-commit", event)
    assert looked == [tmp_path / "hooks/pre-commit", tmp_path / "hooks/post-commit"]


def test_a_hook_that_cannot_be_looked_at_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """access(2) says no where it may not, and where memory runs out as well."""
    path = tmp_path / "hooks/pre-commit"
    path.parent.mkdir(mode=0o755)
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(HookRefused, match="exit code 3"):
        run_before(tmp_path, "pre-commit", Event(CommitId("0" * 40), None, changes=list))


def test_who_interrupts_as_a_hook_begins_ends_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hooks/pre-commit"
    path.parent.mkdir(mode=0o755)
    path.write_text("#!/bin/sh\nexec sleep 1000\n")
    path.chmod(0o755)
    begun: list[int] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            begun.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_before(tmp_path, "pre-commit", Event(CommitId("0" * 40), None, changes=list))
        assert is_gone(begun[0])
    finally:
        with suppress(ProcessLookupError):
            os.kill(begun[0], signal.SIGKILL)
