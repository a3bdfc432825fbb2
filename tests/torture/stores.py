"""A small store: made by commands, set back to what it was, and told apart from others.

What a store says is told by its contents, since ids have the time in them: two stores are alike if their refs have the
same names and, commit by commit, the same files, configurations and parents, and their containers the same changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from fusefs import mounting
from runtime.cli.program import run as run_command
from runtime.containers import Containers
from runtime.upper.unfinished import remove_unfinished
from tests.support.deadline import abort
from tests.torture.leftovers import identities, take_cgroups_away, take_dead_cgroups_away
from tests.torture.pressure import measured, pressed
from tests.torture.processes import Traced, end_descendants, reap, untraced
from tests.torture.tracer import NEVER, Strike, traced
from vcs.errors import TreeringError
from vcs.model import Chunked, CommitId, Data
from vcs.store import Store

Shape = dict[str, str]
"""What a store says: refs and containers, each with a digest of what it is."""
_HEX = re.compile(r"[0-9a-f]{12,}")
_SHARD = re.compile(r"objects/[0-9a-f]{2}/")
_NUMBER = re.compile(r"\d+")
_OF_NO_INTEREST = (
    "containers/.names", "caches/", "history.git/hooks/", "history.git/info/", "history.git/description",
    "run/filters/.",  # half written, it goes with the next one
)  # fmt: skip
_STAYS = ("PATH", "LANG", "PYTHONPATH", "TREERING_DEBUG")


class Place:
    """A directory with a store in it that commands are run on, and a copy that it is set back to. The store may lie
    elsewhere, too.

    `spared`: processes below this one that are no command's. If it is given, this process is a subreaper, and commands
    may leave processes behind: setting back ends them. `registry`: the address that stands for {registry} in commands.
    """

    def __init__(self, directory: Path, broken: Callable[[], None] = lambda: None, store: Path | None = None) -> None:
        self.directory = directory
        self.store = store or directory / "store"
        self._copy = directory / "copy"
        self._broken = broken
        self.spared: frozenset[int] | None = None
        self.tracers: set[int] = set()
        self._seen: set[str] = set()
        self.registry = ""
        self.remote = directory / "storage"
        """What that registry holds; it is set back too."""
        directory.mkdir(parents=True, exist_ok=True)

    # -- commands

    def run(self, *arguments: str) -> Traced:
        """Run a command in a process of its own."""
        done = untraced(lambda: self._command(arguments), self.directory)
        if self.spared is not None:
            reap(self.spared)
        return done

    def must(self, *arguments: str) -> str:
        """Run one that has to succeed."""
        done = self.run(*arguments)
        if done.code:
            raise AssertionError(f"{arguments}: {done.code}\n{done.err}")
        return done.out

    def struck(
        self, arguments: tuple[str, ...], strike: Strike = NEVER, *, see: bool = False, stays: bool = False
    ) -> Traced:
        """Run one that something happens to. This alone runs the broken variant, if there is one."""

        def work(before: Callable[[], object] = lambda: None) -> int:
            self._broken()
            return self._command(arguments, before)

        if strike.scarce:
            return pressed(work, self.directory, strike.scarce, strike.number)
        done = traced(work, self.directory, strike, see=see, stays=stays)
        self.tracers.add(done.tracer)
        self._seen |= done.containers
        return done

    def seen(self, arguments: tuple[str, ...], strike: Strike, stays: bool) -> list[str]:
        """What there is to strike at: calls, or how much there may be of something."""
        if strike.scarce:
            return measured(lambda before: self._command(arguments, before), self.directory, strike.scarce)
        return self.struck(arguments, replace(strike, number=NEVER.number), see=True, stays=stays).seen

    def containers(self) -> set[str]:
        """The ids of all containers that the store has or had, and of those that a command was seen to make."""
        return identities(self.store) | self._seen

    def _command(self, arguments: tuple[str, ...], before: Callable[[], object] = lambda: None) -> int:
        os.chdir(self.directory)
        kept = {name: os.environ[name] for name in _STAYS if name in os.environ}
        os.environ.clear()
        os.environ.update(kept, HOME=str(self.directory), LC_ALL="C.UTF-8", TZ="UTC", TREERING_STORE=str(self.store))
        os.environ.update(TREERING_FORK_SERVER="0", XDG_RUNTIME_DIR=str(self.directory), SUDO_UID="")
        os.environ.update(TREERING_AUTHOR_NAME="Ada Tester", TREERING_AUTHOR_EMAIL="ada@example.org")
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
        arguments = tuple(word.replace("{registry}", self.registry) for word in arguments)
        sys.argv = ["treering", *arguments]
        before()
        return run_command(arguments)

    # -- setting back

    def keep(self) -> None:
        """Remember the store as it is."""
        self.leave()
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        if self.store.exists():
            subprocess.run(["cp", "-a", str(self.store), str(self._copy)], check=True)
        if self.remote.exists():
            subprocess.run(["cp", "-a", str(self.remote), str(self._copy)], check=True)

    def set_back(self) -> None:
        """Make the store what it was."""
        self.leave()
        shutil.rmtree(self.store, ignore_errors=True)
        assert not self.store.exists(), "something is mounted there, or busy"
        shutil.rmtree(self.remote, ignore_errors=True)
        for name in ("store", self.remote.name):
            if (self._copy / name).exists():
                subprocess.run(["cp", "-a", str(self._copy / name), str(self.directory)], check=True)

    def leave(self) -> None:
        """End what serves the store, if anything does, and take its mounts away."""
        below = os.fsencode(self.store)
        if any(mount.point.startswith(below) for mount in mounting.mounts()):
            self.run("service", "stop")
        if self.spared is not None:
            containers = self.containers()
            take_cgroups_away(containers)  # nothing that is frozen can be killed
            end_descendants(self.spared)
            take_dead_cgroups_away(containers)
            self._seen.clear()
            self.tracers.clear()
        for mount in mounting.mounts():
            if mount.point.startswith(below):
                abort(mount.device)
                subprocess.run(["umount", "-l", os.fsdecode(mount.point)], check=False)

    # -- looking

    def shape(self) -> Shape:
        """What the store says."""
        return self._asked(self._shape)

    def _asked(self, question: Callable[[], Shape]) -> Shape:
        answer = self.directory / "answer"

        def work() -> int:
            answer.write_text(json.dumps(question()))
            return 0

        answer.unlink(missing_ok=True)
        done = untraced(work, self.directory)
        if done.code:
            raise AssertionError(f"the store cannot be read: {done.err}")
        found: Shape = json.loads(answer.read_text())
        return found

    def _shape(self) -> Shape:
        if not (self.store / "format").exists():
            return {}
        with Store.open(self.store) as store:
            containers = Containers(store).all()
            names = {one.id: one.name for one in containers}
            digests: dict[str, str] = {}
            shape: Shape = {}
            for ref, commit in store.history.refs("refs/").items():
                parts = [names.get(part, "ID" if _HEX.fullmatch(part) else part) for part in ref.split("/")]
                name = "/".join(parts)
                shape[name] = " ".join(
                    sorted(filter(None, (*shape.get(name, "").split(), _told(store, commit, digests))))
                )
            for one in containers:
                remove_unfinished(one.upper.parent)  # as whatever looks at the container does
                settings = hashlib.sha256(repr(one.record.settings).encode()).hexdigest()[:16]
                shape[f"container {one.name}"] = f"{_told(store, one.base, digests)} {_upper(one.upper)} {settings}"
            return shape

    def kinds(self) -> set[str]:
        """The names of the store's files, without digests, ids and numbers."""
        found = set()
        for path in self._files():
            name = path.relative_to(self.store).as_posix()
            if path.is_file() and not name.startswith(_OF_NO_INTEREST):
                found.add(kind_of_name(name))
        return found

    def _files(self) -> Iterator[Path]:
        """What is in the store, but not what it shows in its mount."""
        for directory, below, names in os.walk(self.store):
            if directory == f"{self.store}/run":
                below[:] = [name for name in below if name != "mnt"]
            yield from (Path(directory, name) for name in names)


def kind_of_name(name: str) -> str:
    """A file's name without digests, ids and numbers."""
    return _NUMBER.sub("N", _SHARD.sub("objects/##/", _HEX.sub("#", name)))


def _told(store: Store, commit: CommitId, digests: dict[str, str]) -> str:
    if commit not in digests:
        info = store.commit(commit) if _has_root(store, commit) else None
        summary = hashlib.sha256()
        if info is not None:
            snapshot = store.snapshot(info.root)
            for path, entry in snapshot.walk():
                summary.update(repr((path, entry)).encode())
                if isinstance(entry.content, (Data, Chunked)):
                    summary.update(snapshot.read(entry.content))
            summary.update(json.dumps(store.history.config(commit), sort_keys=True, default=str).encode())
            for parent in info.parents:
                summary.update(_told(store, parent, digests).encode())
        digests[commit] = summary.hexdigest()[:16]
    return digests[commit]


def _has_root(store: Store, commit: CommitId) -> bool:
    try:
        return bool(store.commit(commit).root)
    except TreeringError as error:
        if "has no root" in str(error):
            return False
        raise


def _upper(upper: Path) -> str:
    """Without directories of which no more is there: overlayfs copies one up before anything is written in it."""
    summary = hashlib.sha256()
    for path in sorted(upper.rglob("*")):
        found = path.lstat()
        if stat.S_ISDIR(found.st_mode):
            continue
        content = path.read_bytes() if stat.S_ISREG(found.st_mode) else b""
        summary.update(repr((path.relative_to(upper), stat.S_IFMT(found.st_mode), content)).encode())
    return summary.hexdigest()[:16]
