"""What processes hold of their root, whichever of their threads holds it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.capturing import openfiles
from runtime.capturing.openfiles import open_files, processes_of
from tests.support.containers import eventually
from tests.support.ordinary_user import NOBODY

_FIRST_ENDS = """
import ctypes, mmap, os, sys, threading
held = os.open(sys.argv[1], os.O_RDWR), open(sys.argv[2], "wb")
memory = mmap.mmap(held[0], 4096)
os.close(held[0])
threading.Thread(target=sys.stdin.read).start()
print("ready", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""

_OWN_DESCRIPTORS = """
import ctypes, mmap, os, sys, threading
def work():
    ctypes.CDLL(None).unshare(0x400)  # CLONE_FILES
    held = open(sys.argv[1], "wb")
    print("ready", flush=True)
    sys.stdin.read()
for _ in range(3):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
threading.Thread(target=work).start()
"""

_LETS_NOBODY_LOOK = """
import ctypes, os, sys
held = os.memfd_create("held")
ctypes.CDLL(None).prctl(4, 0)  # PR_SET_DUMPABLE
print("ready", flush=True)
sys.stdin.readline()
ctypes.CDLL(None).prctl(4, 1)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(script: str, *paths: Path) -> Iterator[int]:
    """A process that says when it is ready, and lives until its input ends."""
    command = [sys.executable, "-P", "-c", script, *map(str, paths)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            yield child.pid
        finally:
            child.kill()


def first_has_ended(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")


def inside(path: Path) -> bytes:
    return os.fsencode(path)[1:]


def test_the_first_thread_of_a_process_has_ended(tmp_path: Path) -> None:
    mapped, gone, written = (tmp_path / name for name in ("mapped", "gone", "written"))
    mapped.write_bytes(bytes(4096))
    with running(_FIRST_ENDS, mapped, written) as pid:
        eventually(lambda: first_has_ended(pid))
        found = open_files([pid])
        assert inside(mapped) in found.mapped
        assert inside(written) in found.writable
        gone.hardlink_to(mapped)
        mapped.unlink()
        assert open_files([pid]).nameless == {gone.stat().st_ino}
        assert pid in processes_of(pid)


@pytest.mark.parametrize("compares", [True, False], ids=["compared", "not to be compared"])
def test_a_thread_has_descriptors_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compares: bool) -> None:
    if not compares:
        monkeypatch.setattr(openfiles, "_SYS_KCMP", None)
    with running(_OWN_DESCRIPTORS, tmp_path / "own") as pid:
        assert inside(tmp_path / "own") in open_files([pid]).writable


def test_threads_that_share_their_descriptors_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    add_open = openfiles._add_open

    def counted(found: openfiles.OpenFiles, thread: int) -> None:
        read.append(thread)
        add_open(found, thread)

    monkeypatch.setattr(openfiles, "_add_open", counted)
    with running(_OWN_DESCRIPTORS, tmp_path / "own") as pid:
        open_files([pid])
        assert len(os.listdir(f"/proc/{pid}/task")) == 5
    assert len(read) == 2


def test_what_cannot_be_known_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        open_files([os.getpid()])


def test_an_init_that_may_not_be_looked_at_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nobody would be in its namespace, and nothing would be held."""

    def refuse(path: str) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "readlink", refuse)
    with pytest.raises(PermissionError):
        processes_of(os.getpid())


@pytest.fixture
def secretive() -> Iterator[subprocess.Popen[bytes]]:
    """An ordinary user's process that does not let him look, until it reads a line; and we are that user."""
    command = ["/usr/bin/python3", "-c", _LETS_NOBODY_LOOK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, cwd="/") as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            os.seteuid(NOBODY)
            yield child
        finally:
            os.seteuid(0)
            child.kill()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who looks into everything: another user must be had")
def test_a_process_that_lets_nobody_look_yet_is_waited_for(secretive: subprocess.Popen[bytes]) -> None:
    def let(_: float) -> None:
        assert secretive.stdin is not None
        assert secretive.stdout is not None
        secretive.stdin.write(b"\n")
        secretive.stdin.flush()
        assert secretive.stdout.readline() == b"ready\n"

    assert b"memfd:held (deleted)" in open_files([secretive.pid], wait=let).writable


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who looks into everything: another user must be had")
def test_a_process_that_lets_nobody_look_is_an_error_in_the_end(secretive: subprocess.Popen[bytes]) -> None:
    with pytest.raises(PermissionError, match=str(secretive.pid)):
        open_files([secretive.pid], wait=lambda _: None)
