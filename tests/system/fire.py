"""What goes on in a store at once: one process a role, until it is killed.

    python -m tests.system.fire ROLE STORE SCRATCH SEED

What a process has been told to be done it writes to SCRATCH/log: `done BRANCH COMMIT`, a line at a time; what must not
happen, as `wrong ...`.
"""

from __future__ import annotations

import io
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from fusefs.client import Service
from runtime.cli.program import run
from runtime.containers import Containers
from runtime.forking import Plan, fork
from runtime.settings import Settings
from runtime.states import States
from tests.support.collecting import author, noise
from vcs.errors import NotFound
from vcs.history import BRANCHES
from vcs.store import Store

FILES = 30


class Role:
    """One process's work on the store."""

    def __init__(self, store: Path, scratch: Path, seed: str) -> None:
        self.store = store
        self.scratch = scratch
        self.chance = random.Random(seed)
        self.branch = f"w{seed.split('.')[0]}"
        self._log = os.open(scratch / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(self, line: str) -> None:
        os.write(self._log, f"{line}\n".encode())

    def treering(self, *arguments: str, may_fail: tuple[str, ...] = ()) -> bool:
        """Run a command. Whatever fails and is not expected to is wrong."""
        errors = io.TextIOWrapper(io.BytesIO())
        with redirect_stdout(io.TextIOWrapper(io.BytesIO())), redirect_stderr(errors):
            code = run(["--store", str(self.store), *arguments])
        errors.seek(0)
        text = errors.read()
        if code and not any(part in text for part in may_fail):
            self.say(f"wrong {arguments}: {code} {text!r}")
        return not code

    def write(self, path: Path) -> None:
        """A file whose name tells its content; half of them are of the few that others write too."""
        name = self.chance.randrange(40) if self.chance.random() < 0.5 else self.chance.randrange(1 << 40)
        path.mkdir(parents=True, exist_ok=True)
        (path / f"f{name}").write_bytes(noise(name, 3000))

    def acknowledge(self, branch: str) -> None:
        with Store.open(self.store) as store:
            self.say(f"done {branch} {store.history.target(BRANCHES + branch)}")

    # -- roles

    def importing(self) -> None:
        top = self.scratch / f"tree-{os.getpid()}"
        while True:
            for _ in range(5):
                self.write(top / f"d{self.chance.randrange(5)}")
            self.treering("import", str(top), "--branch", self.branch, "-m", "fire")
            self.acknowledge(self.branch)

    def experimenting(self) -> None:
        """Makes branches and deletes them: their content becomes garbage, and is written again by others."""
        top = self.scratch / f"tree-{os.getpid()}"
        while True:
            self.write(top / f"d{self.chance.randrange(5)}")
            branch = f"x{self.chance.randrange(3)}"
            self.treering(
                "import", str(top), "--branch", branch, "-m", "fire", may_fail=("has moved", "exists already")
            )
            self.treering("branch", "-d", branch, may_fail=("no branch",))

    def forking(self) -> None:
        """Containers, with something written in them: committed, forked and removed."""
        while True:
            with Store.open(self.store) as store:
                containers = Containers(store)
                base = store.history.resolve("base")
                container = containers.create("base", base, Settings(), author())
                container.upper.mkdir()
                self.write(container.upper / "written")
                States(containers).commit(container, "fire\n", author(), branch=f"c{container.id}")
                self.say(f"done c{container.id} {store.history.target(f'{BRANCHES}c{container.id}')}")
                (copy,) = fork(containers, containers.reload(container), Plan(1, container.name), author())
                for other in (container, copy):
                    self.treering("rm", other.name)

    def reading(self) -> None:
        """Reads through the mount what stays."""
        with Service.ensure(self.store) as lease:
            while True:
                for branch in (lease.mountpoint / "branches").iterdir():
                    if branch.name.startswith(("w", "base")):
                        for path in branch.resolve().rglob("f*"):
                            if path.read_bytes() != noise(int(path.name[1:]), 3000):
                                self.say(f"wrong bytes in {path}")

    def collecting(self) -> None:
        while True:
            expire = self.chance.choice(["now", "now", "1h"])
            repack = ["--repack"] if self.chance.random() < 0.1 else []
            self.treering("gc", "--expire", expire, *repack, may_fail=("another process",))


ROLES: dict[str, Callable[[Role], None]] = {
    "import": Role.importing,
    "experiment": Role.experimenting,
    "fork": Role.forking,
    "read": Role.reading,
    "collect": Role.collecting,
}


def main(role: str, store: str, scratch: str, seed: str) -> None:
    working = Role(Path(store), Path(scratch), seed)
    os.environ |= {"TREERING_AUTHOR_NAME": "fire", "TREERING_AUTHOR_EMAIL": "fire@localhost"}
    try:
        ROLES[role](working)
    except NotFound as error:
        working.say(f"wrong {role}: {error}")
    except Exception as error:
        working.say(f"wrong {role}: {type(error).__name__}: {error}")
    time.sleep(60)  # what it said is read when all are ended


if __name__ == "__main__":
    main(*sys.argv[1:])
