"""Commands as a shell sees them: exit codes, pipes, terminals, signals, other users."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.cli.errors import failure_of
from tests.cli.conftest import PROJECT, Cli, environment

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_data_and_messages_do_not_mix(cli: Cli) -> None:
    done = cli.process("branch", "exp")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = cli.process("branch", "-d", "exp")
    assert done.stdout == b""
    assert done.stderr.startswith(b"Deleted branch exp")
    done = cli.process("log", "nope")
    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"treering: no revision 'nope'\nhint: ")


@pytest.mark.parametrize(("arguments", "code"), [(("--version",), 0), (("log", "-h"), 0), ((), 2), (("--bogus",), 2)])
def test_exit_codes(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    assert cli.process(*arguments).returncode == code


def test_the_reader_of_a_pipe_may_leave(cli: Cli) -> None:
    """`treering ... | head` ends quietly, as programs do that SIGPIPE kills."""
    process = cli.start("cat", *["main:/bin/busybox"] * 20, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 141


def test_a_full_disk_is_an_error_and_no_bug(cli: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        done = cli.process("log", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 125
    assert b"No space left" in done.stderr
    assert b"bug" not in done.stderr


def test_ctrl_c(cli: Cli, until: object) -> None:
    """An import from a pipe that stays empty, interrupted."""
    # A shell starts what it puts into the background with the signal ignored, and so would we hand it on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = cli.start("import", "-", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    # It sits in read(2) on our pipe once it has opened its layer's lock.
    _until_reading(process.pid)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, b"")
    cli("fsck")


def _until_reading(pid: int) -> None:
    """Wait until a process sleeps in a read of a pipe (proc_pid_wchan(5), proc_pid_syscall(5))."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x0 "):
            return
        time.sleep(0.005)
    raise AssertionError("it never read its input")


def as_nobody(cli: Cli, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a command as an ordinary user, who need not be able to read our interpreter: all of it is imported before."""
    program = (
        "import importlib, json, os, pkgutil, socket, sys, traceback\n"
        "import runtime.cli, vcs\n"
        "for package in (runtime.cli, vcs):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "from runtime.cli import main; main()\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments],
        env=environment(cli.store, env), capture_output=True, check=False, timeout=60,
    )  # fmt: skip


@needs_root
def test_another_user_is_refused(cli: Cli) -> None:
    cli.store.parent.chmod(0o755)
    done = as_nobody(cli, "log")
    assert done.returncode == 125
    assert b"Permission denied" in done.stderr
    assert b"hint: run it as root, or use a store of your own" in done.stderr
    assert done.stderr.count(b"\n") == 2


def test_not_a_store(empty: Cli) -> None:
    error = empty.error("log")
    assert error["kind"] == "NotAStore"
    assert "init" in error["advice"]
    empty.store.mkdir()
    assert empty.error("ps")["kind"] == "NotAStore"
    (empty.store / "format").write_text("something else\n")
    assert empty.error("fsck")["kind"] == "NotAStore"


def test_a_store_of_another_version(cli: Cli) -> None:
    (cli.store / "format").write_text("treering store 99\n")
    for verb in (("log",), ("ls", "main:/"), ("ps",), ("init",), ("service",)):
        assert cli.error(*verb)["kind"] in ("UnknownFormat", "AlreadyExists")


def test_init_refuses_what_is_not_empty(empty: Cli) -> None:
    empty.store.mkdir()
    (empty.store / "precious").touch()
    assert empty.error("init")["kind"] == "AlreadyExists"
    assert [entry.name for entry in empty.store.iterdir()] == ["precious"]


def test_the_store_is_found(cli: Cli, tmp_path: Path) -> None:
    for arguments in (["--store", str(cli.store), "branch"], ["branch", "--store", str(cli.store)]):
        done = cli.process(*arguments, env={"TREERING_STORE": str(tmp_path / "nowhere")})
        assert done.stdout.startswith(b"main "), done.stderr


@needs_root
def test_another_user_has_a_store_of_their_own(cli: Cli, tmp_path: Path) -> None:
    done = as_nobody(cli, "init", env={"TREERING_STORE": "", "XDG_DATA_HOME": str(tmp_path / "data")})
    # Where tests run, only root may reach the directory: which one it was is what matters.
    assert str(tmp_path / "data/treering").encode() in done.stderr


def test_a_missing_interpreter_library_is_told_plainly(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/pygit2.py").write_text("raise ModuleNotFoundError('gone', name='pygit2')\n")
    done = cli.process("log", env={"PYTHONPATH": f"{tmp_path / 'broken'}:{PROJECT}"})
    assert done.returncode == 125
    assert b"package 'pygit2' is missing" in done.stderr


@pytest.mark.parametrize(
    "error", ["MemoryError()", 'ImportError("x.so: failed to map segment")', 'RuntimeError("can\'t start new thread")']
)
def test_too_little_memory_is_no_bug(cli: Cli, tmp_path: Path, error: str) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/pygit2.py").write_text(f"raise {error}\n")
    done = cli.process("log", env={"PYTHONPATH": f"{tmp_path / 'broken'}:{PROJECT}"})
    assert done.returncode == 125
    assert b"there is not enough memory" in done.stderr


_CLOSES_WITHOUT_MEMORY = """
import sys
from runtime.cli.invocation import Invocation
from runtime.cli.program import run

def close(self):
    raise MemoryError

Invocation.close = close
sys.exit(run(["--version"]))
"""


def test_too_little_memory_to_close_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CLOSES_WITHOUT_MEMORY],
        env={"PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("treering ")
    assert done.returncode == 125
    assert done.stderr.startswith("treering: there is not enough memory\n")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["log", "fsck", "tag x main"])
@pytest.mark.parametrize("count", range(4, 10))
def test_too_few_descriptors_are_told_in_a_line(cli: Cli, command: str, count: int) -> None:
    """However few: with 3 Python itself does not begin."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, 4096))

    done = cli.process(*command.split(), preexec_fn=limit, text=True)
    if done.returncode == 125:
        assert "Too many open files" in done.stderr
        assert len(done.stderr.splitlines()) <= 2
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 125)


def test_a_library_that_cannot_be_opened_is_no_bug(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    text = "libgit2.so: cannot open shared object file: Too many open files"
    (tmp_path / "broken/pygit2.py").write_text(f"raise ImportError({text!r})\n")
    done = cli.process("log", env={"PYTHONPATH": f"{tmp_path / 'broken'}:{PROJECT}"})
    assert done.returncode == 125
    assert f"a library cannot be opened: {text}".encode() in done.stderr
    assert b"bug" not in done.stderr


def test_a_bug_is_one_line_unless_asked(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/pygit2.py").write_text("raise RuntimeError('oh')\n")
    broken = {"PYTHONPATH": f"{tmp_path / 'broken'}:{PROJECT}"}
    done = cli.process("log", env=broken)
    assert done.stderr.count(b"\n") == 2
    assert b"this is a bug" in done.stderr
    assert b"Traceback" in cli.process("log", env={**broken, "TREERING_DEBUG": "1"}).stderr


# -- terminals


def on_terminal(cli: Cli, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a command shows on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*cli.command, *arguments], stdin=slave, stdout=slave, stderr=slave,
        env=environment(cli.store, {"TERM": "xterm", **(env or {})}),
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(master)
    assert process.wait(30) == 0
    return shown.decode()


def test_colours_are_for_terminals(cli: Cli) -> None:
    assert "\x1b[33m" in on_terminal(cli, "log", env={"PAGER": "cat"})
    assert "\x1b[" not in on_terminal(cli, "log", env={"PAGER": "cat", "NO_COLOR": "1"})
    assert "\x1b[" not in cli.process("log").stdout.decode()


def test_the_pager_is_for_terminals(cli: Cli, tmp_path: Path) -> None:
    pager = tmp_path / "pager"
    pager.write_text("#!/bin/sh\necho \"LESS=$LESS\"; exec sed 's/^/paged: /'\n")
    pager.chmod(0o755)
    chosen = {"TREERING_PAGER": str(pager), "LESS": "FRX"}
    shown = on_terminal(cli, "log", env=chosen)
    assert "LESS=FRX" in shown
    assert "paged: " in shown
    assert "paged: " not in on_terminal(cli, "--no-pager", "log", env=chosen)
    assert "paged: " not in on_terminal(cli, "branch", env=chosen)
    assert b"paged: " not in cli.process("log", env=chosen).stdout


def test_a_pager_may_be_left_early(cli: Cli) -> None:
    on_terminal(cli, "log", env={"TREERING_PAGER": "true"})


def test_progress_is_for_terminals(cli: Cli, tmp_path: Path) -> None:
    assert b"\r" not in cli.process("fsck").stderr
    assert "no damage" in on_terminal(cli, "fsck")


# -- completion


def completed(cli: Cli, line: str) -> list[str]:
    """What bash offers for a line, asked as bash asks."""
    script = f"""
eval "$({sys.executable} -P -m runtime.cli completion bash)"
treering() {{ {sys.executable} -P -m runtime.cli "$@"; }}
compopt() {{ :; }}
COMP_LINE={json.dumps(line)}; COMP_POINT=${{#COMP_LINE}}
_treering treering
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script], env=environment(cli.store), capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.split()


def test_bash_completion(cli: Cli) -> None:
    assert completed(cli, "treering rollb") == ["rollback"]
    assert completed(cli, "treering log ot") == ["other"]
    assert completed(cli, "treering cat main:/etc/mo") == ["/etc/motd"]
    assert "--oneline" in completed(cli, "treering log --")
    assert completed(cli, "treering tag v") == ["v1"]


def test_completion_never_fails(empty: Cli) -> None:
    assert completed(empty, "treering log ma") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(empty: Cli, shell: str) -> None:
    assert "_TREERING_COMPLETE" in empty("completion", shell).stdout


@pytest.mark.parametrize(
    "error",
    [ImportError("cannot import name 'Odb' from 'pygit2'", name="pygit2"), LookupError("unknown encoding: ascii")],
)
def test_what_python_could_not_read_just_then_is_no_bug(error: Exception) -> None:
    assert failure_of(error).kind == "Incomplete"
    assert failure_of(type(error)("something of ours")).kind == "Bug"
