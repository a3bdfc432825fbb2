"""Where steps are done: in a container of a real store, and in what it is compared with.

    Container   a running container's root, as the runtime mounts it: an overlay on the service's FUSE mount
    Overlay     an overlay with the same options, on ext4
    Ext4        a directory

Each has a hand (tests/posix/hand.py) in it. A side goes on to the next round from what it is itself, by means of its
own: commits in the one, copies in the other.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime.overlay import OPTIONS
from tests.cli.conftest import environment, stop_service
from tests.posix import hand
from tests.posix.look import Tree, look
from tests.posix.step import Step
from tests.support import rich_tree
from tests.support.agent import Agent
from tests.support.busybox_root import make_busybox_root
from tests.support.compare import data_runs

FURNITURE = frozenset({b"bin", b"etc", b"tmp", b"root", b"home", b"proc", b"dev", b"sys"})
"""What a container is run by, which no step touches."""
SECONDS = 120


def make_base(path: Path, *, linked: bool = True, small_ids: bool = False) -> Path:
    """A root with one of everything, and directories in which things can be moved about."""
    rich_tree.make(path)
    (path / "whiteout").unlink()  # in a lower on ext4 this would be one
    for names in (("sub", "c", "d"), ("d", "sub"), ("e",)):
        path.joinpath(*names).mkdir(parents=True)
    for number, name in enumerate(("a", "b", "sub/a", "sub/c/b", "sub/c/d/e", "d/a", "d/sub/b", "e/a")):
        (path / name).write_bytes(hand.pattern(number, 6000 * number))
    os.link(path / "sub/a", path / "d/c")
    os.link(path / "sub/c/d/e", path / "e/e")
    make_busybox_root(path)
    if small_ids:
        os.chown(path / "nobody", 4000, 3000)
    return path if linked else _part(path)


def _part(path: Path) -> Path:
    """Let no two names be one file."""
    for directory, _, names in os.walk(path):
        for name in (Path(directory, name) for name in names):
            if name.lstat().st_nlink > 1:
                subprocess.run(["cp", "-a", name, f"{path}.one"], check=True)
                os.rename(f"{path}.one", name)
    return path


class Failed(Exception):
    """A command of ours did not do what it should."""


class Container:
    """Ours."""

    def __init__(self, directory: Path, base: Path, broken: str = "", *, ids: bool = False) -> None:
        self._directory = directory
        self._store = directory / "store"
        self._broken = broken
        self._ids = ids
        self._agent: Agent | None = None
        self._number = 0
        self._exports = 0
        self._name = ""
        self.treering("init")
        self.treering("import", str(base), "--branch", "main", "-m", "base")

    def treering(self, *arguments: str) -> str:
        """Run a command, which must succeed; what it prints."""
        program = ["-m", "tests.posix.broken", self._broken] if self._broken else ["-m", "runtime.cli"]
        with open(self._directory / "errors", "w+b") as errors:
            done = subprocess.run(
                [sys.executable, "-P", *program, *arguments], env=environment(self._store), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=errors, timeout=SECONDS, check=False,
            )  # fmt: skip
            errors.seek(0)
            if done.returncode:
                raise Failed(f"treering {' '.join(arguments)}: {done.returncode} {errors.read().decode()}")
        return done.stdout.decode()

    def begin(self) -> None:
        """A new container of the last commit."""
        if self._name:
            self.treering("rm", "--discard", self._name)
        self._number += 1
        self._name = f"box{self._number}"
        options = ("--userns", "auto") if self._ids else ()
        self.treering("create", "--name", self._name, *options, "main", "sleep", "100000")
        self.again()

    def again(self) -> None:
        """Start it, again or for the first time."""
        self.treering("start", "-d", self._name)
        (found,) = json.loads(self.treering("--format", "json", "ps"))
        self._agent = Agent(self._directory)
        self._agent.call(hand.enter_container, found["id"], found["pid"], self._ids)

    @property
    def agent(self) -> Agent:
        assert self._agent is not None
        return self._agent

    def do(self, step: Step) -> Any:
        return self.agent.call(hand.do, step)

    def names(self) -> dict[bytes, str]:
        return self.agent.call(hand.names, FURNITURE)

    def look(self) -> Tree:
        return self.agent.call(hand.look_around)

    def commit(self, pause: bool = True) -> Tree:
        """Commit it as it is, running or not; the commit's files, exported."""
        self.treering("commit", self._name, "-m", "step", "--allow-empty", "--branch", "main",
                      *(() if pause else ("--no-pause",)))  # fmt: skip
        target = self._directory / f"export{self._exports}"
        self._exports += 1
        self.treering("export", "main", str(target))
        try:
            return look(os.fsencode(target))
        finally:
            shutil.rmtree(target)

    def stop(self) -> None:
        self._close()
        self.treering("kill", self._name)
        self.treering("wait", self._name)

    def _close(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def check(self) -> None:
        """The store is whole."""
        self.treering("fsck", "--read-data")

    def end(self) -> None:
        self._close()
        if self._name:
            self.treering("rm", "-f", "--discard", self._name)
        stop_service(self._store)


class Overlay:
    """A plain overlay on ext4, in a mount namespace of its hand's own."""

    options = b",".join([b"%b=%b" % option for option in OPTIONS] + [b"volatile"])

    def __init__(self, directory: Path, base: Path, options: bytes = b"") -> None:
        self._directory = directory
        self._options = options or self.options
        self._number = 0
        self._agent = Agent(directory)
        self._lower = os.fsencode(directory / "lower0")
        copy_tree(os.fsencode(base), self._lower)
        self._enter()

    def _enter(self) -> None:
        upper, work = (os.fsencode(self._directory / f"{name}{self._number}") for name in ("upper", "work"))
        os.mkdir(upper)
        os.mkdir(work)
        _copy_look(self._lower, upper)
        self._agent.call(hand.enter_overlay, self._lower, upper, work, self._options)

    def do(self, step: Step) -> Any:
        return self._agent.call(hand.do, step)

    def names(self) -> dict[bytes, str]:
        return self._agent.call(hand.names, FURNITURE)

    def look(self) -> Tree:
        return self._agent.call(hand.look_around)

    def next(self) -> None:
        """Copy what is seen, for it to be the next lower."""
        self._agent.call(hand.leave)
        merged = os.fsencode(self._directory / f"upper{self._number}.merged")
        self._number += 1
        self._lower = os.fsencode(self._directory / f"lower{self._number}")
        self._agent.call(copy_tree, merged, self._lower)
        self._enter()

    def end(self) -> None:
        self._agent.close()


class Ext4(Overlay):
    """A plain directory: there is no next one."""

    def _enter(self) -> None:
        self._agent.call(hand.enter_directory, self._lower)

    def next(self) -> None:
        self._agent.call(hand.leave)
        self._enter()


def copy_tree(source: bytes, target: bytes) -> None:
    """By coreutils; with overlayfs's attributes escaped, as a lower needs them, and zeros written where they were: when
    overlayfs copies a file's data up it gives it another mtime, but only if there is any."""
    subprocess.run([b"cp", b"-a", b"-T", source, target], check=True)
    done: set[int] = set()
    for here, directories, files in os.walk(target):
        for path in (here, *(os.path.join(here, name) for name in directories + files)):
            status = os.lstat(path)
            if status.st_ino not in done:
                done.add(status.st_ino)
                _escape(path)
                if stat.S_ISREG(status.st_mode):
                    _write_zeros(source + path[len(target) :], path)


def _write_zeros(source: bytes, target: bytes) -> None:
    """Where the one has data and the other a hole."""
    with open(source, "rb") as one, open(target, "r+b", buffering=0) as other:
        runs = data_runs(one.fileno())
        if runs == data_runs(other.fileno()):
            return
        status = os.fstat(other.fileno())
        kept = {name: os.getxattr(target, name) for name in os.listxattr(target) if name.startswith("security.")}
        for start, end in runs:
            os.pwrite(other.fileno(), os.pread(one.fileno(), end - start, start), start)
        for name, value in kept.items():  # which a write has taken away
            os.setxattr(target, name, value)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _escape(path: bytes) -> None:
    own = b"trusted.overlay."
    found = [name for name in map(os.fsencode, os.listxattr(path, follow_symlinks=False)) if name.startswith(own)]
    if not found:
        return
    status = os.lstat(path)
    values = {name: os.getxattr(path, name, follow_symlinks=False) for name in found}
    for name in found:
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in values.items():
        os.setxattr(path, own + b"overlay." + name[len(own) :], value, follow_symlinks=False)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _copy_look(source: bytes, target: bytes) -> None:
    """The attributes of a directory."""
    status = os.stat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
