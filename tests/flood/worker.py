"""One of the processes of a flood: it does at random what a store is asked to do, until it is killed.

    python -m tests.flood.worker DIRECTORY EXPIRE BROKEN NUMBER SEED ACTIONS

What a command has acknowledged is written down with what must be in it. That is known from the names of the files that
this very process has put there; only what came of merges is read back. Whatever else a command answers is counted, or
is a finding.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fusefs.client import Service
from tests.flood import contents, processes
from tests.flood.command import Outcome, run
from tests.flood.place import Acknowledged, Place
from vcs.errors import TreeringError
from vcs.model import CommitId
from vcs.store import Store

TOGETHER = "together"
"""The branch that everybody commits to and nobody deletes."""
_SCRATCH = 4
"""Branches that everybody makes and deletes."""
_CONTAINERS = 3
_TOLERATED = {"ok", "killed", "Conflict", "NotFound", "AlreadyExists"}
"""How a command may end beside others: it is done, or somebody was first. Commits that a worker knows by their ids are
acknowledged ones, and always there; an import needs nothing but what it writes itself."""
_ID = re.compile(r"[0-9a-f]{40}")
_BY_KILLS = {"EngineError", "StoreError", "code 125", "code 255"}
"""How one may end whose helpers were killed."""
_UNCONNECTED = "Transport endpoint is not connected"
"""What is said in a container of which the whole service was killed: it has no root any more."""


@dataclass(frozen=True, slots=True)
class Known:
    """A commit, and the paths of the files in it."""

    commit: str
    paths: frozenset[str]


class Worker:
    """Acts one after another."""

    def __init__(self, place: Place, number: int, seed: str) -> None:
        self.place = place
        self.number = number
        self.chance = random.Random(seed)
        self.branch = f"w{number}"
        self.tree = place.directory / "trees" / f"{number}-{os.getpid()}"
        shutil.copytree(place.base, self.tree, symlinks=True)
        with Store.open(place.store) as store:
            self.base = store.history.resolve("base")
        self.known = [Known(self.base, frozenset())]
        self.containers: dict[str, Known] = {}
        """Those of this process, with what is in them."""
        self._made = 0

    def work(self, actions: list[str]) -> None:
        for branch in (self.branch, TOGETHER):  # with a history in common, so that they can be merged
            self.treering("branch", branch, self.base)
        weights = [ACTIONS[action][0] for action in actions]
        while True:
            (action,) = self.chance.choices(actions, weights)
            ACTIONS[action][1](self)

    # -- commands

    def treering(self, *arguments: str | Path, stdin: bytes = b"", also: tuple[str, ...] = ()) -> Outcome:
        """Run a command. What it may not end with, now that others are there, is a finding."""
        verb = next(str(word) for word in arguments)
        what = " ".join(map(str, arguments))
        begun = time.time()
        done = run(
            self.place, *arguments, stdin=stdin, forked=self.chance.random() < 0.8,
            begun=lambda pid: self.place.sit(self.number, pid, what),
        )  # fmt: skip
        kind = done.kind
        self.place.count(verb=verb, kind=kind, seconds=done.seconds, peak=done.peak)
        gone = kind == "NotFound" and any(word[:12] in done.err for word in map(str, arguments) if _ID.fullmatch(word))
        gone |= kind == "NotFound" and verb == "import"
        is_by_kill = kind in _BY_KILLS and self._kills_since(begun - 5)
        is_by_kill |= _UNCONNECTED in done.err and self._kills_since(0)
        if gone or (kind not in _TOLERATED | set(also) and not is_by_kill):
            self.place.find(f"worker {self.number}: {what}: {done.code}\n{done.out[-1000:]}\n{done.err[-3000:]}")
        return done

    def _kills_since(self, begun: float) -> bool:
        """Whether a process that a command may need was killed since."""
        return any("killed" in one and float(str(one["time"])) >= begun for one in self.place.counted())

    def acknowledge(self, action: str, known: Known, branch: str = "") -> None:
        digest = contents.expected(known.paths)
        self.place.acknowledge(Acknowledged(self.number, action, known.commit, digest, branch, time.time()))
        self.known = [*self.known[-9:], known]

    def name(self) -> str:
        """One that nobody else uses."""
        self._made += 1
        return f"w{self.number}-{os.getpid()}-{self._made}"

    # -- commits

    def importing(self) -> None:
        """The process's own directory, onto a branch of its own or onto that of all."""
        self._change_tree()
        self._import(self.chance.choice([self.branch, self.branch, TOGETHER]))

    def _import(self, branch: str) -> None:
        done = self.treering("import", self.tree, "-b", branch, "-m", "flood")
        if done.ok:
            self.acknowledge("import", Known(done.value["commit"], frozenset(contents.on_disk(self.tree))), branch)

    def scratching(self) -> None:
        """A branch whose content becomes garbage; nothing of it is promised to anybody."""
        self._change_tree()
        branch = f"x{self.chance.randrange(_SCRATCH)}"
        self.treering("import", self.tree, "-b", branch, "-m", "scratch")
        self.treering("branch", "-d", f"x{self.chance.randrange(_SCRATCH)}")

    def dropping(self) -> None:
        """A branch that is deleted: the operation log alone still names what was on it."""
        self._change_tree()
        branch = self.name()
        self._import(branch)
        self.treering("branch", "-d", branch)

    def _change_tree(self) -> None:
        there = sorted(contents.on_disk(self.tree))
        if there and self.chance.random() < 0.4:
            (self.tree / contents.TOP / self.chance.choice(there)).unlink()
        for _ in range(self.chance.randrange(1, 5)):
            path = self.tree / contents.TOP / contents.any_path(self.chance)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(contents.content(path.name))

    def running(self) -> None:
        """A container writes files and ends; it is committed once or twice, and removed."""
        base, name, paths = self.chance.choice(self.known), self.name(), self._some_paths()
        with_files = Known("", base.paths | paths)
        command = (
            "run",
            "-i",
            "--network",
            "none",
            "--name",
            name,
            base.commit,
            "--",
            "busybox",
            "tar",
            "x",
            "-C",
            "/",
        )
        if self.treering(*command, stdin=contents.archive(paths)).ok:
            self.containers[name] = with_files
            self._commit_container(name)
        self._limit_containers()

    def living(self) -> None:
        """A container goes on while it is committed. What is written beside what is checked never stands still."""
        base, name = self.chance.choice(self.known), self.name()
        busy = "while :; do for i in 1 2 3 4 5 6 7 8; do echo $i$i$i > /tmp/busy$i; done; done"
        command = "sleep 1000" if self.chance.random() < 0.6 else busy
        if not self.treering(
            "run", "-d", "--network", "none", "--name", name, base.commit, "--", "sh", "-c", command
        ).ok:
            return
        self.containers[name] = base
        for _ in range(self.chance.randrange(1, 4)):
            paths = self._some_paths()
            unpack = ("exec", "-i", name, "busybox", "tar", "x", "-C", "/")
            if not self.treering(*unpack, stdin=contents.archive(paths), also=("code 137",)).ok:
                break  # perhaps half of it is there
            self.containers[name] = Known("", self.containers[name].paths | paths)
            self._commit_container(name)
        self.treering("rm", "-f", *self._discard(), name)
        self.containers.pop(name, None)

    def _commit_container(self, name: str) -> None:
        branch = f"c/{self.name()}" if not self.place.keeps_operations or self.chance.random() < 0.5 else ""
        done = self.treering("commit", name, "-m", "flood", "--allow-empty", *(("-b", branch) if branch else ()))
        if done.ok:
            known = Known(done.value["commit"], self.containers[name].paths)
            self.containers[name] = known
            self.acknowledge("commit", known, branch)

    def _some_paths(self) -> frozenset[str]:
        return frozenset(contents.any_path(self.chance) for _ in range(self.chance.randrange(1, 4)))

    def _limit_containers(self) -> None:
        while len(self.containers) > _CONTAINERS:
            self.removing()

    def removing(self) -> None:
        """What a container has that is not committed becomes a commit."""
        if not self.containers:
            return
        name = self.chance.choice(sorted(self.containers))
        del self.containers[name]
        self.treering("rm", "-f", *self._discard(), name)

    def _discard(self) -> tuple[str, ...]:
        return ("--discard",) if self.chance.random() < 0.5 else ()

    def merging(self) -> None:
        """The branch of all into one's own, or the other way round."""
        theirs, ours = self.chance.choice([(TOGETHER, self.branch), (self.branch, TOGETHER)])
        done = self.treering("merge", theirs, "--on", ours, also=("code 1",))
        if done.ok and (commit := done.value.get("commit")):
            with suppress(TreeringError), Store.open(self.place.store) as store:
                digest = contents.found(store.snapshot(store.commit(CommitId(commit)).root))
                self.place.acknowledge(Acknowledged(self.number, "merge", commit, digest, ours, time.time()))
        elif done.kind == "NotFound" and self.place.keeps_operations:
            # Somebody has taken one back to before it was made, and an import has begun it anew.
            for branch in (theirs, ours):
                self.treering("branch", "-f", branch, self.base)

    # -- names

    def branching(self) -> None:
        known, name = self.chance.choice(self.known), self.name()
        if self.treering("branch", name, known.commit).ok and known.commit != self.base:
            self.acknowledge("branch", known, name)
        if self.place.keeps_operations:
            self.treering("branch", "-f", f"x{self.chance.randrange(_SCRATCH)}", known.commit)

    def tagging(self) -> None:
        known, name = self.chance.choice(self.known), self.name()
        message = ("-m", "flood") if self.chance.random() < 0.3 else ()
        self.treering("tag", *message, name, known.commit)
        if self.place.keeps_operations and self.chance.random() < 0.3:
            self.treering("tag", "-d", name)

    # -- taking back

    def undoing(self) -> None:
        self.treering("undo" if self.chance.random() < 0.8 else "redo")

    def restoring(self) -> None:
        done = self.treering("op", "log", "-n", "20")
        if done.ok and done.value:
            self.treering("op", "restore", self.chance.choice(done.value)["id"])

    # -- garbage

    def collecting(self) -> None:
        repack = ("--repack",) if self.chance.random() < 0.2 else ()
        self.treering("gc", "--expire", self.place.expire, *repack)

    # -- reading

    def reading(self) -> None:
        """Commits through the service, by their ids; whatever is there has the bytes that it is to have."""
        self.place.sit(self.number, os.getpid(), "reading through the service")
        with suppress(TreeringError), Service.ensure(self.place.store) as lease:
            for known in self.chance.sample(self.known, min(3, len(self.known))):
                self._read(lease.mountpoint / "commits" / known.commit, known)

    def mounting(self) -> None:
        """The same through a mount of one's own."""
        where = self.place.directory / "mounts" / self.name()
        known = self.chance.choice(self.known)
        if self.treering("mount", where, also=("Denied",)).ok:
            self.place.sit(self.number, os.getpid(), f"reading below {where}")
            self._read(where / "commits" / known.commit, known)
        self.treering("umount", where)

    def _read(self, top: Path, known: Known) -> None:
        try:
            paths = contents.on_disk(top.resolve())
            wrong = contents.wrong_below(top.resolve() / contents.TOP)
            (top.resolve() / contents.TOP).stat()  # a mount that went away meanwhile looks empty to glob
        except OSError as error:
            if not self._kills_since(time.time() - 60):
                self.place.find(f"worker {self.number}: {top} cannot be read: {error}")
            return
        if wrong:
            self.place.find(f"worker {self.number}: wrong bytes in {wrong}")
        elif paths != known.paths:
            self.place.find(f"worker {self.number}: {top} has {sorted(paths)}, and should have {sorted(known.paths)}")

    def asking(self) -> None:
        known = self.chance.choice(self.known)
        question = self.chance.choice(
            [
                ("log", "-n", "20"), ("log", "--", f"/{contents.TOP}/d1"), ("op", "log", "-n", "5"), ("branch",),
                ("ps", "-a"), ("du",), ("fsck",), ("ls", f"{known.commit}:/{contents.TOP}"), ("gc", "--dry-run"),
                ("diff", self.base, known.commit), ("reflog", TOGETHER), ("service", "status"), ("show", known.commit),
            ]
        )  # fmt: skip
        done = self.treering(*question, also=("code 1",) if question[0] == "fsck" else ())
        if question == ("fsck",) and done.code == 1:
            self.place.find(f"worker {self.number}: fsck: {done.out[-3000:]}{done.err[-1000:]}")

    # -- killing

    def killing(self) -> None:
        """One process of the flood: a command, its helper, the service, a worker; never what watches over all."""
        prey = [process for process in processes.of(self.place.directory) if process.role != "flood"]
        for process in self.chance.sample(prey, min(1, len(prey))):
            if process.role == "worker" and self.chance.random() < 0.7:
                continue  # they are half of all
            if processes.kill(process.pid, self.place.directory):
                self.place.count(killed=process.role)


ACTIONS: dict[str, tuple[float, Callable[[Worker], None]]] = {
    "import": (5, Worker.importing),
    "scratch": (2, Worker.scratching),
    "drop": (1, Worker.dropping),
    "run": (4, Worker.running),
    "live": (2, Worker.living),
    "rm": (1, Worker.removing),
    "merge": (3, Worker.merging),
    "branch": (2, Worker.branching),
    "tag": (1, Worker.tagging),
    "undo": (2, Worker.undoing),
    "restore": (1, Worker.restoring),
    "gc": (2, Worker.collecting),
    "read": (2, Worker.reading),
    "mount": (1, Worker.mounting),
    "ask": (2, Worker.asking),
    "kill": (4, Worker.killing),
}
"""What is done, how often, and how."""
TAKING_BACK = ("drop", "undo", "restore")
"""These take names away from what others have made."""


def main(directory: str, expire: str, broken: str, number: str, seed: str, actions: str) -> None:
    place = Place(Path(directory), expire, broken)
    os.environ |= place.environment()
    worker = Worker(place, int(number), seed)
    try:
        worker.work(json.loads(actions))
    except Exception as error:
        place.find(f"worker {number} broke: {type(error).__name__}: {error}")
        raise


if __name__ == "__main__":
    main(*sys.argv[1:])
