"""A place for containers in tests, which checks that nothing is left of them."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from runtime.bundle import LaunchSpec
from runtime.containers import Container, Containers
from runtime.state import RunPaths
from runtime.supervision.launch import launch
from tests.support.busybox_root import make_busybox_root
from tests.support.cgroups import of_container

PROJECT = Path(__file__).parents[2]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until `condition` gives something true, and return that. Fails when the time is up."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {condition}"
        time.sleep(0.005)
    return found


def remove(containers: Containers, container: Container) -> None:
    """Remove one that never ran, without keeping its state."""
    with containers.changing(container) as now:
        containers.take_away(now)
    containers.finish_removing([now])


def engine_states(store: Path) -> list[Path]:
    """What engines know of containers. Newer versions of crun have a cache of their own there (1.21 does,
    1.8 does not), which stays."""
    return [path for path in store.glob("run/engine/*") if path.name != ".cache"]


def kill_wholly(pid: int) -> None:
    """SIGKILL, and wait for the process's end: its files are closed before it counts as dead."""
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
        select.select([process], [], [], 60)
    finally:
        os.close(process)


@dataclass
class Bench:
    """Makes and starts containers below one directory."""

    path: Path
    engine: str
    ids: list[str] = field(default_factory=list)

    def root(self, bare: bool = False) -> Path:
        root = self.path / f"root-{bare}"
        return root if root.exists() else make_busybox_root(root, bare)

    def container(self) -> RunPaths:
        """Room for a container, as whoever keeps records makes it."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.ids.append(name)
        directory = self.path / "containers" / name
        (directory / "gen/0").mkdir(parents=True)
        return RunPaths(directory, directory / "gen/0", self.path / "run/engine")

    def spec(self, paths: RunPaths, *args: str, **more: Any) -> LaunchSpec:
        return LaunchSpec(paths.directory.name, more.pop("hostname", "box"), args, engine=self.engine, **more)

    def run(
        self,
        *args: str,
        paths: RunPaths | None = None,
        image: dict[str, Any] | None = None,
        lower: Path | None = None,
        **more: Any,
    ) -> tuple[int, str]:
        """Run a command in a container; its exit code and output."""
        paths = paths or self.container()
        with tempfile.TemporaryFile() as log:
            spec = self.spec(paths, *args, **more)
            code = launch(paths, spec, image or {}, lower or self.root(), log=log.fileno())
            log.seek(0)
            return code, log.read().decode(errors="surrogateescape")

    def command(self, paths: RunPaths, *args: str, **more: Any) -> list[str]:
        """A command line that does it in a process of its own."""
        job = {
            "paths": [str(paths.directory), str(paths.generation), str(paths.engine_state)],
            "lower": str(self.root()),
            "spec": msgspec.to_builtins(self.spec(paths, *args, **more)),
        }
        return [sys.executable, "-P", "-m", "tests.support.launch_main", json.dumps(job)]

    def start(self, paths: RunPaths, *args: str, **more: Any) -> subprocess.Popen[bytes]:
        streams = {name: more.pop(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
        return subprocess.Popen(self.command(paths, *args, **more), cwd=PROJECT, env=environment(), **streams)

    def leftovers(self) -> list[str]:
        """Whatever still exists of this bench's containers outside their directories."""
        found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.path) in line]
        found += [str(path) for one in self.ids for path in of_container(one)]
        found += [str(path) for path in (self.path / "run/engine").glob("t*")]
        found += [process for process in _command_lines() if str(self.path) in process]
        return found


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def _command_lines() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield entry.name + " " + (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue


@contextmanager
def bench(engine: str) -> Iterator[Bench]:
    """A bench that must be clean in the end."""
    path = Path(tempfile.mkdtemp(prefix="treering-test-"))
    try:
        made = Bench(path, engine)
        yield made
        eventually(lambda: not made.leftovers() or None)
    finally:
        shutil.rmtree(path, ignore_errors=True)
