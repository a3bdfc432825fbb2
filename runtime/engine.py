"""The OCI runtime that starts containers: crun or runc, whichever is there. Their differences end in this module.

crun    refuses a hybrid cgroup hierarchy (cgroup v1 with an empty v2 at /sys/fs/cgroup/unified) unless that mount is
        out of its sight; writes `TIME: message` to its log; leaves cgroups alone if told to
runc    takes it as it is; its log is asked for as JSON; in a user namespace it does without cgroups if refused
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from runtime.command import CANNOT_INVOKE, NOT_FOUND
from runtime.namespace import in_user_namespace
from runtime.state import CGROUP_PREFIX
from runtime.system import mounts
from vcs.errors import EngineError
from vcs.existing import is_there

KNOWN = ("crun", "runc")
"""In order of preference: crun starts a container in half of runc's time."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": SEARCH_PATH}
CONFIG = "config.json"
"""In a bundle (OCI runtime spec, bundle.md)."""
_CGROUP_ROOT = Path("/sys/fs/cgroup")
_HYBRID = _CGROUP_ROOT / "unified"
FAILED = 125
"""Exit code if the container could not be set up, as Docker's."""


class NoEngine(EngineError):
    """An OCI runtime is not installed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An OCI runtime and the directory where it keeps its state."""

    name: str
    path: Path
    state: Path
    cgroups: bool = True
    """Whether it may make cgroups; in a user namespace it may not."""

    def run(self, container: str, bundle: Path, pid_file: Path, log: Path, console: str | None = None) -> list[str]:
        """Arguments that create and start a container and return; its init is then a child of the caller, who must be
        a subreaper. `console` is a socket that is sent the terminal."""
        args = ["run", "--detach", "--bundle", str(bundle), "--pid-file", str(pid_file)]
        if console:
            args += ["--console-socket", console]
        return self._arguments(log, *args, container)

    def execute(
        self, container: str, process: Path, pid_file: Path, log: Path, console: str | None = None
    ) -> list[str]:
        """Arguments that start a further process, described by a process.json, in a running container and return; the
        process is then a child of the caller, who must be a subreaper."""
        args = ["exec", "--detach", "--process", str(process), "--pid-file", str(pid_file)]
        if console:
            args += ["--console-socket", console]
        return self._arguments(log, *args, container)

    def delete(self, container: str, log: Path) -> list[str]:
        """Arguments that kill what is left of a container and forget it."""
        return self._arguments(log, "delete", "--force", container)

    def drop(self, container: str) -> bool:
        """Forget a container whose first process has ended, without starting an engine for that, which takes 3 ms;
        its cgroups are not looked at. False if this must be left to `delete`."""
        if self.name != "crun":
            return False
        try:
            shutil.rmtree(self.state / container)
        except OSError:
            return False
        return True

    def _arguments(self, log: Path, *args: str) -> list[str]:
        # crun writes what goes wrong at the very end, in the container's process, to the container's stderr, in the
        # log's format: so its log is text.
        form = "json" if self.name == "runc" else "text"
        # runc finds out by itself.
        cgroups = ["--cgroup-manager=disabled"] if self.name == "crun" and not self.cgroups else []
        return [str(self.path), "--root", str(self.state), "--log", str(log), "--log-format", form, *cgroups, *args]

    def knows(self, container: str) -> bool:
        """Whether the engine has state of this container, perhaps left by a crash."""
        return is_there(self.state / container)

    def config(self, container: str, bundle: Path) -> Path:
        """Where a container's config.json is, once it runs: the bundle's, or, as with crun, the engine's own copy."""
        own = self.state / container / CONFIG
        return own if is_there(own) else bundle / CONFIG

    def forget(self, container: str, log: Path) -> None:
        """Kill and remove whatever an earlier run of this container left behind: processes, state, cgroups."""
        if self.knows(container):
            wait(spawn(self.delete(container, log), (None, None, None)))
        self.forget_rest(container)

    def forget_rest(self, container: str) -> None:
        """See the function of this name."""
        forget_rest(self.state, container, self.cgroups)

    def version(self) -> str:
        """Such as `1.8.1`. EngineError if it does not say."""
        status = self.path.stat()
        return _version(str(self.path), status.st_mtime_ns, status.st_size)


def forget_rest(state: Path, container: str, cgroups: bool = True) -> None:
    """Remove what engines leave: cgroups, with whatever is in them, and state that the engine cannot read: it was
    killed while it wrote that, or the disk was full. EngineError if the cgroups stay, and then so does the state."""
    if cgroups and not remove_cgroups(container):
        raise EngineError(
            "a process of the container's does not end, or its cgroups cannot be removed",
            advice="perhaps it waits for a disk or a server: try again later",
        )
    shutil.rmtree(state / container, ignore_errors=True)


def find_engine(state: Path, name: str | None = None) -> Engine:
    """The engine of this name or path, or the best one installed. NoEngine if there is none."""
    for candidate in (name,) if name else KNOWN:
        folders = [""] if "/" in candidate else SEARCH_PATH.split(":")
        for folder in folders:
            path = Path(folder, candidate)
            if os.access(path, os.X_OK) and path.is_file():
                kind = "runc" if "runc" in path.name else "crun"
                return Engine(kind, path.absolute(), state, cgroups=not in_user_namespace())
    if name:
        raise NoEngine(f"there is no OCI runtime {name}", engine=name)
    raise NoEngine("there is no OCI runtime; install crun (or runc)", engine=None)


@lru_cache(maxsize=8)
def _version(path: str, _mtime_ns: int, _size: int) -> str:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as output:
        process = spawn([path, "--version"], (None, writer, None))
        os.close(writer)
        text = output.read().decode(errors="replace")
    wait(process)
    found = re.search(r"version (\S+)", text)
    if not found:
        raise EngineError(f"{path} does not tell its version", engine=path)
    return found[1]


def spawn(arguments: list[str], stdio: tuple[int | None, int | None, int | None]) -> int:
    """Start an engine with these standard streams (None: /dev/null); returns its pid.

    Signals are as at login, not as Python set them: an ignored SIGPIPE would be inherited by the container. The
    environment is empty but for PATH: a LISTEN_FDS or NOTIFY_SOCKET would pass descriptors on.
    """
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    for number, source in enumerate(stdio):
        if source is None:
            actions.append((os.POSIX_SPAWN_OPEN, number, "/dev/null", os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, source, number))
    default = [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]
    try:
        return os.posix_spawn(
            arguments[0], arguments, _ENVIRONMENT, file_actions=actions, setsigmask=(), setsigdef=default
        )
    except OSError as error:
        raise EngineError(f"cannot start {arguments[0]}: {error.strerror}", engine=arguments[0]) from error


def wait(pid: int) -> int:
    """Wait for a child; its exit code, 128 + the signal if it was killed."""
    return exit_code(os.waitpid(pid, 0)[1])


def collect(init: int) -> int:
    """The exit code of an init that has ended.

    crun starts it through a helper process, whose child it stays until the helper has ended; on a busy machine that
    may be after the container has. Then we wait for helpers first.
    """
    while True:
        try:
            return wait(init)
        except ChildProcessError:
            ended, status = os.waitpid(-1, 0)
            if ended == init:
                return exit_code(status)


def exit_code(status: int) -> int:
    """A wait status as a shell would show it."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def hide_hybrid_cgroup() -> None:
    """Cover the v2 part of a hybrid cgroup hierarchy, in the caller's mount namespace, which must be its own.

    It is covered rather than unmounted: crun makes the container's directory there all the same, and the directory
    below the mount is on the host's tmpfs, where it would stay.
    """
    with suppress(OSError):
        if mounts.file_system_type(os.fsencode(_CGROUP_ROOT)) == mounts.CGROUP2_MAGIC:
            return
        if mounts.file_system_type(os.fsencode(_HYBRID)) == mounts.CGROUP2_MAGIC:
            mounts.mount(b"tmpfs", os.fsencode(_HYBRID), b"tmpfs", 0, b"size=1m,mode=0700")


def hide_cgroups() -> None:
    """Cover cgroup hierarchies of which nothing is ours, in the caller's mount namespace: crun looks at how they are
    laid out even if it is to leave them alone. Pure v2 it takes as it is."""
    with suppress(OSError):
        if mounts.file_system_type(os.fsencode(_CGROUP_ROOT)) != mounts.CGROUP2_MAGIC:
            mounts.mount(b"tmpfs", os.fsencode(_CGROUP_ROOT), b"tmpfs", 0, b"size=1m,mode=0755")


def remove_cgroups(container: str) -> bool:
    """Remove the container's cgroup from every hierarchy, once the container is over; False if any is left. The kernel
    may take a moment to notice that, and there may be too few descriptors just then, so it is tried for up to a second.
    Whatever is still in it is ended: an engine that was killed may have started a process and told nobody."""
    deadline = time.monotonic() + 1
    while not _removed(f"{CGROUP_PREFIX}{container}"):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.005)
    return True


def _removed(name: str) -> bool:
    """Whether no hierarchy has a cgroup of this name any more. Those that there are were tried to be removed."""
    is_left = False
    try:
        trees = [_CGROUP_ROOT / tree for tree in os.listdir(_CGROUP_ROOT)]
        found = [path for path in (tree / name for tree in (_CGROUP_ROOT, *trees)) if is_there(path)]
        found.sort(key=lambda path: not is_there(path / "freezer.state"))  # what is frozen cannot end
        for directory in found:
            if directory.parent == _HYBRID and mounts.file_system_type(os.fsencode(_HYBRID)) != mounts.CGROUP2_MAGIC:
                continue  # what hides it; ends with our namespace
            if is_there(directory) and not _remove_tree(directory):
                _end_all(directory)
                is_left = True
    except OSError:
        return False
    return not is_left


def _end_all(directory: Path) -> None:
    """End all processes in a cgroup and below it; one that is frozen has to go on for that."""
    with suppress(OSError):
        for path, _, files in os.walk(directory):
            for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if name in files:
                    Path(path, name).write_text(thawed)
            for pid in map(int, Path(path, "cgroup.procs").read_text().split()):
                if pid:  # 0: one outside of our pid namespace
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def _remove_tree(directory: Path) -> bool:
    """rmdir from the leaves up; a cgroup's files cannot be and need not be removed. False if it cannot be done yet."""
    try:
        for path, _, _ in os.walk(directory, topdown=False, onerror=_raise):
            Path(path).rmdir()
    except OSError:
        return False
    return True


def _raise(error: OSError) -> None:
    """What os.walk() would pass over."""
    raise error


def failure(engine: Engine, log: Path, code: int, what: str = "start the container") -> EngineError:
    """The engine's last complaint as one line, with the facts `engine`, `line` and `exit_code` (125, 126 or 127)."""
    lines = [_message(line) for line in _read(log).splitlines() if line.strip()]
    line = lines[-1] if lines else f"it {_ended(code)} and said nothing"
    return EngineError(
        f"{engine.name} could not {what}: {line}",
        engine=engine.name,
        line=line,
        exit_code=_docker_code(line),
    )


def unkept(engine: Engine, but: str) -> EngineError:
    """The error of an engine that says it has started something, though it has not done all that goes with that."""
    return EngineError(
        f"the OCI runtime {engine.path} says that it has done its work, but {but}",
        engine=str(engine.path),
        advice="what it had started was ended. Use another one, such as the distribution's crun or runc: "
        "treering run --runtime crun",
    )


def _ended(code: int) -> str:
    return f"was killed by signal {code - 128}" if code > 128 else f"exited with code {code}"


def _read(log: Path) -> str:
    try:
        return log.read_text(errors="replace")
    except OSError:
        return ""


def _message(line: str) -> str:
    if line.startswith("{"):
        with suppress(ValueError):
            return str(json.loads(line)["msg"]).replace("\n", " ")
    return re.sub(r"^\d{4}-\S+Z: ", "", line)


_CRUN_COMMAND = re.compile(r"^(executable file|open executable|exec container process|cannot find executable)")
_RUNC_COMMAND = re.compile(r'exec: "')


def _docker_code(line: str) -> int:
    """126 and 127 only for complaints about the command itself, not for a file that the engine missed elsewhere."""
    if not (_CRUN_COMMAND.search(line) or _RUNC_COMMAND.search(line)):
        return FAILED
    text = line.lower()
    return NOT_FOUND if "not found" in text or "no such file" in text else CANNOT_INVOKE
