"""OCI runtimes that end with success and have not done all that they must: one clear error, and nothing runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.support.containers import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

_TELLING = """#!/bin/sh
crun "$@"
code=$?
while [ $# -gt 1 ]; do
    [ "$1" = --pid-file ] && { {}; }
    shift
done
exit $code
"""
UNTOLD = {
    ': > "$2"': "its pid file is empty",
    r'printf "no number\377" > "$2"': r"its pid file says b'no number\xff'",
    'printf "%09999d" 1 > "$2"': "its pid file says b'0000",
    'rm "$2"': "there is no pid file",
}
"""What becomes of a pid file, and what is said of that."""
_WITHOUT_TERMINAL = f"""#!{sys.executable} -ISE
import json, os, socket, subprocess, sys
words = sys.argv[1:]

def taken(option):
    at = words.index(option)
    found = words[at + 1]
    del words[at : at + 2]
    return found

if "--console-socket" in words:
    address = taken("--console-socket")
    option, below = ("--process", "") if "exec" in words else ("--bundle", "/config.json")
    path = words[words.index(option) + 1] + below
    config = json.load(open(path))
    config.get("process", config)["terminal"] = False
    json.dump(config, open(path, "w"))
    {{}}
sys.exit(subprocess.call(["crun", *words], close_fds=False))
"""
_CONNECT = "there = socket.socket(socket.AF_UNIX); there.connect(address)"
_HOLD = "os.dup2(there.fileno(), 3); os.set_inheritable(3, True); words[-1:-1] = ['--preserve-fds', '1']"
WITHOUT_TERMINAL = {
    "silent": "",
    "closed": f"{_CONNECT}; there.sendall(b'none'); there.close()",
    "held": f"{_CONNECT}; {_HOLD}",
}
"""What an engine does with the console socket. Held: by the command, as long as that runs."""
_STUCK = """#!/bin/sh
case " $* " in *" exec "* | *" run "*)
    sh -c 'kill -9 $$' &
    exec sleep 299
esac
exec crun "$@"
"""
"""Exec'd programs do not wait for children that they had before."""


def engine(path: Path, text: str = '#!/bin/sh\nexec crun "$@"\n') -> str:
    """An engine that is such a script; without one, as it should be."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    return tmp_path / "crun-wrong"


@pytest.fixture
def web(box: Cli, wrong: Path) -> Cli:
    """A container called web, of an engine that is still as it should be."""
    done = box.process("run", "-d", "--name", "web", "--runtime", engine(wrong), "main", "sleep", "300")
    assert done.returncode == 0, done.stderr
    return box


def refused(box: Cli, *arguments: str) -> dict[str, Any]:
    """The one error of a command that could not be started, as --format json tells it."""
    done = box.process("--format", "json", *arguments)
    assert (done.returncode, done.stdout) == (125, b""), done.stderr
    (line,) = done.stderr.splitlines()
    error: dict[str, Any] = json.loads(line)["error"]
    assert (error["kind"], "--runtime" in (error["advice"] or "")) == ("EngineError", True), error
    return error


def is_alone(box: Cli) -> bool:
    """Whether nothing runs in web but its own command, and nothing of another is left."""
    assert not list(box.store.glob("containers/*/exec-*"))
    return [one["command"] for one in box.json("top", "web")] == [["sleep", "300"]]


@pytest.mark.parametrize("option", ["-i", "-t", "-d"])
def test_exec_of_which_no_pid_is_told(web: Cli, wrong: Path, option: str) -> None:
    for telling, told in UNTOLD.items():
        engine(wrong, _TELLING.replace("{}", telling))
        error = refused(web, "exec", option, "web", "sleep", "299")
        assert str(wrong) in error["message"]
        assert told in error["message"]
        eventually(lambda: is_alone(web))
    engine(wrong)
    assert web.process("exec", "web", "echo", "again").stdout == b"again\n"


@pytest.mark.parametrize("option", ["-i", "-t", "-d"])
def test_run_of_which_no_pid_is_told(box: Cli, wrong: Path, option: str) -> None:
    for telling, told in UNTOLD.items():
        runtime, command = engine(wrong, _TELLING.replace("{}", telling)), endless()
        error = refused(box, "run", option, "--runtime", runtime, "main", *command)
        assert str(wrong) in error["message"]
        assert told in error["message"]
        eventually(lambda command=command: not runs(command))
        assert box.json("ps") == []


@pytest.mark.parametrize("way", WITHOUT_TERMINAL)
@pytest.mark.parametrize("option", ["-t", "-dt"])
def test_exec_that_gets_no_terminal(web: Cli, wrong: Path, option: str, way: str) -> None:
    engine(wrong, _WITHOUT_TERMINAL.replace("{}", WITHOUT_TERMINAL[way]))
    error = refused(web, "exec", option, "web", "sleep", "299")
    assert str(wrong) in error["message"]
    assert "terminal" in error["message"]
    eventually(lambda: is_alone(web))


@pytest.mark.parametrize("way", WITHOUT_TERMINAL)
@pytest.mark.parametrize("option", ["-t", "-dt"])
def test_run_that_gets_no_terminal(box: Cli, wrong: Path, option: str, way: str) -> None:
    runtime, command = engine(wrong, _WITHOUT_TERMINAL.replace("{}", WITHOUT_TERMINAL[way])), endless()
    error = refused(box, "run", option, "--runtime", runtime, "main", *command)
    assert str(wrong) in error["message"]
    assert "terminal" in error["message"]
    eventually(lambda: not runs(command))
    assert box.json("ps") == []


def test_one_that_waits_for_a_dead_helper_is_killed(web: Cli, wrong: Path) -> None:
    """All at once: each is watched for seconds."""
    engine(wrong, _STUCK)
    run = ("run", "--runtime", str(wrong))
    ways = [("exec", option, "web") for option in ("-i", "-t", "-d", "-dt")]
    ways += [(*run, option, "main") for option in ("-i", "-t", "-d", "-dt")]
    started = [web.start("--format", "json", *way, "true", stderr=subprocess.PIPE) for way in ways]
    for way, process in zip(ways, started, strict=True):
        _, said = process.communicate(timeout=60)
        assert process.returncode == 125, (way, said)
        assert "signal 9" in json.loads(said)["error"]["message"], way
    engine(wrong)
    eventually(lambda: is_alone(web))
    assert [one["name"] for one in web.json("ps")] == ["web"]


def endless() -> list[str]:
    """A command that is no other's."""
    return ["sh", "-c", f"sleep 299; : {os.urandom(8).hex()}"]


def runs(command: list[str]) -> bool:
    """Whether a process runs it, wherever on the machine."""
    wanted = b"".join(word.encode() + b"\0" for word in command)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == wanted:
                return True
    return False
