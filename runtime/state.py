"""What is on disk about a container's process, and what can be concluded from it: after any crash, and by any process.

Two files in the container's directory, each replaced atomically:

    run.json    written by the supervisor when it begins, and again when the container's init exists: a name for this
                run, the machine's boot, the engine, and pid and start time of supervisor and init
    exit.json   written (and fsynced) when the container has ended; carries the run it belongs to
    stopped     is there if a user has stopped it, so that its restart policy does not start it again

A pid alone means little, since pids are used again; a pid together with the time its process started (field 22 of
/proc/PID/stat, proc(5)) and the boot names one process for ever.

    no run.json                                      Created
    exit.json of this run, the supervisor lives      Restarting(code), if it says when it starts it again
    exit.json of this run                            Exited(code)
    the machine was booted since                     Exited(None)
    the supervisor lives, init not yet noted         Starting
    the supervisor lives, init noted                 Running
    the supervisor is gone, init lives               Running     the exit code will be lost
    both are gone, no exit.json                      Exited(None)
"""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from vcs.durable import replace_file
from vcs.errors import Conflict

CGROUP_PREFIX = "treering-"

RUN, EXIT, STOPPED, RUN_LOCK = "run.json", "exit.json", "stopped", "run.lock"
PID_FILE = "init.pid"
"""Written by the engine."""
STUBS = "stubs.json"
"""In a generation's directory: see runtime.stubs."""


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where a container's run keeps things. Every path is absolute."""

    directory: Path
    """STORE/containers/ID."""
    generation: Path
    """The directory that holds the upper, its work and its stubs."""
    engine_state: Path
    """Where the engines keep their own state, for all containers: STORE/run/engine."""

    @property
    def store(self) -> Path:
        return self.engine_state.parents[1]

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    @property
    def rootfs(self) -> Path:
        """Where the overlay is mounted, in the container's mount namespace only."""
        return self.directory / "rootfs"

    @property
    def etc(self) -> Path:
        """Our hosts, hostname and resolv.conf, mounted over the root's."""
        return self.directory / "etc"

    @property
    def upper(self) -> Path:
        return self.generation / "upper"

    @property
    def work(self) -> Path:
        return self.generation / "work"

    @property
    def stubs(self) -> Path:
        return self.generation / STUBS

    @property
    def lock(self) -> Path:
        """Flocked by the supervisor as long as it lives."""
        return self.directory / RUN_LOCK

    @property
    def pid_file(self) -> Path:
        return self.directory / PID_FILE

    @property
    def engine_log(self) -> Path:
        return self.directory / "engine.log"


@dataclass(frozen=True, slots=True)
class Process:
    """A process for ever: its pid and its start in clock ticks since boot."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now, zombies included; None if there is none."""
        fields = _stat_fields(pid)
        return cls(pid, int(fields[19])) if fields else None

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        fields = _stat_fields(self.pid)
        return fields is not None and int(fields[19]) == self.start and fields[0] not in (b"Z", b"X")


def _stat_fields(pid: int) -> list[bytes] | None:
    """/proc/PID/stat from field 3 (state) on. The name before it may hold spaces and parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(b")") + 2 :].split()


@dataclass(frozen=True, slots=True)
class Run:
    """One start of a container."""

    run: str
    container: str
    boot: str
    engine: str
    """Path of the OCI runtime."""
    supervisor: Process
    init: Process | None = None
    started: float | None = None
    """When init began to run, in seconds since 1970."""
    restarts: int = 0
    """How often the restart policy started it before."""
    pipes: tuple[int, ...] = ()
    """The inodes of the pipes that are its standard output and error, by which another supervisor finds them."""


@dataclass(frozen=True, slots=True)
class Created:
    """It has never been started."""


@dataclass(frozen=True, slots=True)
class Starting:
    """A supervisor is setting it up."""


@dataclass(frozen=True, slots=True)
class Running:
    """Its init is `pid`."""

    pid: int
    supervised: bool = True
    """False if the supervisor was killed: nobody will learn the exit code."""


@dataclass(frozen=True, slots=True)
class Exited:
    """It ran and ended. `code` is None if nobody saw it: the machine stopped, or the supervisor was killed."""

    code: int | None
    error: str | None = None
    """Why it could not be started, if it could not."""
    ended: float | None = field(default=None, compare=False)
    """When, in seconds since 1970."""
    oom: bool = False
    """Whether the kernel killed a process of it for want of memory."""
    is_due: bool = field(default=False, compare=False)
    """Whether it was to be started again, and who was to do that was killed."""


@dataclass(frozen=True, slots=True)
class Restarting:
    """It ended, and its supervisor waits to start it again."""

    code: int | None
    at: float
    """When, in seconds since 1970."""


State: TypeAlias = Created | Starting | Running | Restarting | Exited


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Names the time since the machine last booted."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def save_run(directory: Path, run: Run) -> None:
    """Replace run.json."""
    write_json(
        directory / RUN,
        {
            "run": run.run,
            "container": run.container,
            "boot": run.boot,
            "engine": run.engine,
            "supervisor": [run.supervisor.pid, run.supervisor.start],
            "init": [run.init.pid, run.init.start] if run.init else None,
            "started": run.started,
            "restarts": run.restarts,
            "pipes": run.pipes,
        },
    )


def load_run(directory: Path) -> Run | None:
    """The latest start, None if there was none."""
    data = read_json(directory / RUN)
    if data is None:
        return None
    init = Process(*data["init"]) if data["init"] else None
    return Run(
        data["run"], data["container"], data["boot"], data["engine"], Process(*data["supervisor"]), init,
        data.get("started"), data.get("restarts", 0), tuple(data.get("pipes", ())),
    )  # fmt: skip


def save_exit(directory: Path, run: Run, end: Exited, again: float | None = None, durable: bool = True) -> None:
    """Write exit.json, durably unless the container is about to be removed. `again`: when it will be started again."""
    fields = {"run": run.run, "code": end.code, "error": end.error, "ended": end.ended, "oom": end.oom, "again": again}
    write_json(directory / EXIT, fields, durable=durable)


def state_of(directory: Path) -> State:
    """What the container is doing. Only reads; safe at any moment, from any process of the machine."""
    run = load_run(directory)
    if run is None:
        return Created()
    ended = _exit_of(directory, run)
    if ended:
        return ended
    if run.boot != boot_id():
        return Exited(None)
    if run.supervisor.alive():
        return Running(run.init.pid) if run.init else Starting()
    # It may have written its last words between our two looks.
    ended = _exit_of(directory, run)
    if ended:
        return ended
    init = run.init or _unrecorded_init(directory, run)
    return Running(init.pid, supervised=False) if init and init.alive() else Exited(None)


def is_running(directory: Path) -> bool:
    """Whether the container has a process, or is just getting one, or waits to be started again."""
    return isinstance(state_of(directory), (Starting, Running, Restarting))


def send_signal(directory: Path, number: int) -> None:
    """Send a signal to a running container's init. Conflict if it does not run."""
    state = state_of(directory)
    if not isinstance(state, Running):
        raise Conflict("the container is not running", container=directory.name)
    try:
        fd = os.pidfd_open(state.pid)
    except ProcessLookupError:
        return
    try:
        # Between our look and the descriptor the pid may have become another process's.
        now = state_of(directory)
        if isinstance(now, Running) and now.pid == state.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


def _exit_of(directory: Path, run: Run) -> Exited | Restarting | None:
    data = read_json(directory / EXIT)
    if not data or data["run"] != run.run:
        return None
    again = data.get("again")
    if again is not None and run.boot == boot_id() and run.supervisor.alive():
        return Restarting(data["code"], again)
    return Exited(data["code"], data["error"], data.get("ended"), data.get("oom", False), is_due=again is not None)


def _unrecorded_init(directory: Path, run: Run) -> Process | None:
    """The init of a container whose supervisor was killed just before it could note it: the engine's pid file, if that
    process began after the supervisor and is in the container's cgroup, or, as an ordinary user's containers have none,
    is the first process of a pid namespace. OSError if that cannot be told."""
    try:
        process = Process.of(int((directory / PID_FILE).read_text()))
        if process is None or process.start < run.supervisor.start:
            return None
        if f"/{CGROUP_PREFIX}{run.container}" in Path(f"/proc/{process.pid}/cgroup").read_text():
            return process
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return process if re.search(r"^NSpid:(\t\d+)+\t1$", status, re.MULTILINE) else None


def write_json(path: Path, value: object, durable: bool = False) -> None:
    """Replace a file atomically; `durable` also survives a power cut from here on."""
    replace_file(path, json.dumps(value).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """A record, or None if there is none. One cut short by a power cut is of an earlier boot and counts as none."""
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return data if isinstance(data, dict) else None
