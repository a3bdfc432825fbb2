"""The directory of a flood: the store, and beside it what its processes tell one another and the verdict."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.flood.contents import TOP
from tests.support.busybox_root import make_busybox_root


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A commit that a process was told to be made."""

    worker: int
    action: str
    commit: str
    digest: str
    """What is in it (flood.contents)."""
    branch: str
    """The branch that was said to name it; empty for none."""
    time: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flood happens. All of its processes have the directory in their command line or environment."""

    directory: Path
    expire: str
    """What `gc --expire` is given. With `now` nobody takes anything back, and all that is acknowledged has a ref."""
    broken: str = ""

    @property
    def store(self) -> Path:
        return self.directory / "store"

    @property
    def base(self) -> Path:
        """A root for containers, with no files of the flood."""
        return self.directory / "base"

    @property
    def keeps_operations(self) -> bool:
        return self.expire != "now"

    def prepare(self) -> None:
        for name in ("run", "seats", "trees", "mounts"):
            (self.directory / name).mkdir(mode=0o700, parents=True)
        make_busybox_root(self.base)
        (self.base / TOP).mkdir()

    # -- what is told

    def acknowledge(self, acknowledged: Acknowledged) -> None:
        """Write down a commit; it counts once this is on the disk."""
        self._add("ledger", json.dumps(asdict(acknowledged)))

    def acknowledged(self) -> list[Acknowledged]:
        return [Acknowledged(**json.loads(line)) for line in self._lines("ledger")]

    def find(self, what: str) -> None:
        """Write down what must not happen."""
        self._add("findings", json.dumps(what))

    def findings(self) -> list[str]:
        return [json.loads(line) for line in self._lines("findings")]

    def count(self, **facts: object) -> None:
        """Write down how a command ended, or whom somebody has killed."""
        self._add("counted", json.dumps({**facts, "time": time.time()}), durable=False)

    def counted(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._lines("counted")]

    def _add(self, name: str, line: str, *, durable: bool = True) -> None:
        fd = os.open(self.directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            data = f"{line}\n".encode()
            assert os.write(fd, data) == len(data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _lines(self, name: str) -> Iterator[str]:
        path = self.directory / name
        if path.exists():
            yield from path.read_text().splitlines()

    # -- seats: what each worker does just now

    def sit(self, worker: int, pid: int, what: str) -> None:
        """A worker's process, or a command of it, begins something."""
        path = self.directory / "seats" / f"{worker}.{os.getpid()}"
        path.write_text(json.dumps({"pid": pid, "what": what, "since": time.monotonic()}))
        path.rename(self.directory / "seats" / str(worker))

    def seats(self) -> dict[int, tuple[int, str, float]]:
        """For each worker a process, what it does, and since when."""
        found = {}
        for path in (self.directory / "seats").iterdir():
            if path.name.isdigit():
                seat = json.loads(path.read_text())
                found[int(path.name)] = (seat["pid"], seat["what"], seat["since"])
        return found

    # -- commands

    def environment(self, *, forked: bool = True) -> dict[str, str]:
        """Of every process of the flood. `forked`: commands are begun by a fork server."""
        project = str(Path(__file__).parents[2])
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": project,
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "TREERING_STORE": str(self.store),
            "TREERING_AUTHOR_NAME": "Ada Tester",
            "TREERING_AUTHOR_EMAIL": "ada@example.org",
            "TREERING_FORK_SERVER": "1" if forked and not self.broken else "0",
        }
