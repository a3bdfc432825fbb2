"""The way into a store's namespaces: finding their keeper, starting one where there is none, joining it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fusefs import detached
from fusefs.rights import in_user_namespace
from fusefs.rundir import RunDirectory, open_log
from runtime.namespace.keeper import LOCK, Record, members
from runtime.namespace.mapping import arguments
from runtime.namespace.needs import Means, User, find_means, refusal
from runtime.system import mounts
from vcs.errors import Denied, NotFound, StoreError

_NAMESPACES = mounts.CLONE_NEWUSER | mounts.CLONE_NEWNS
_LOCK_SECONDS = 60.0
_START_SECONDS = 30.0
_MAP_SECONDS = 20.0
_LOCK_PAUSE = 0.01


def enter(store: Path, user: User) -> bool:
    """Move this process, which must have one thread only, into the namespaces of `store`; they are made if there are
    none. Inside, `user` is 0. The current directory stays, by its path. Returns whether they were made now and have no
    id but that one, since the machine gives him none.

    NotAStore; Denied if the machine lacks something (runtime.namespace.needs), or the current directory cannot be
    entered; NotFound if that is gone; StoreError.
    """
    places = RunDirectory(store)
    here = _current_directory()
    with _locked(places, fcntl.LOCK_SH):
        joined = _join_keeper(places.path)
    is_alone = False
    if not joined:
        with _locked(places, fcntl.LOCK_EX):
            if not _join_keeper(places.path):
                is_alone = _make_or_adopt(places, user)
    try:
        os.chdir(here)
    except OSError as error:  # setns(2) has put us into the root directory: a relative path would be of another file
        raise Denied(f"{here} cannot be entered from the store's namespaces: {error.strerror}", path=here) from error
    return is_alone


def are_there(store: Path) -> bool:
    """Whether a store has namespaces, as far as its record says."""
    return Record.load(store / "run") is not None


def leave_soon(store: Path) -> None:
    """Tell the keeper that nobody will come: once nobody is inside it ends without waiting for more commands.

    Root of the machine has no keeper, and would signal whatever process the owner of the store has written there.
    """
    if os.geteuid() == 0 and not in_user_namespace():
        return
    record = Record.load(store / "run")
    if record is None:
        return
    keeper = _open_process(record.keeper.pid)
    if keeper is None:
        return
    try:
        if record.keeper.alive():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(keeper, signal.SIGTERM)
    finally:
        os.close(keeper)


def _current_directory() -> str:
    try:
        return os.getcwd()
    except OSError as error:
        raise NotFound("the current directory does not exist any more: go to another") from error


@contextlib.contextmanager
def _locked(places: RunDirectory, how: int) -> Iterator[None]:
    """Hold namespaces.lock. StoreError if somebody else does for too long."""
    lock = places.open_lock(LOCK)
    deadline = time.monotonic() + _LOCK_SECONDS
    try:
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"{places.path / LOCK} is held by another process", path=str(places.path / LOCK)
                    ) from None
                time.sleep(_LOCK_PAUSE)
        yield
    finally:
        os.close(lock)


def _join_keeper(directory: Path) -> bool:
    record = Record.load(directory)
    if record is None or not record.keeper.alive():
        return False
    return _join(record.keeper.pid, record)


def _join(pid: int, record: Record) -> bool:
    """Join the namespaces of a process, if it (still) is in those of the record."""
    process = _open_process(pid)
    if process is None:
        return False
    try:
        # The pid may be another process's by now; the descriptor is of the one that has it from here on.
        if (
            os.stat(f"/proc/{pid}/ns/user").st_ino != record.user
            or os.stat(f"/proc/{pid}/ns/mnt").st_ino != record.mount
        ):
            return False
        mounts.setns(process, _NAMESPACES)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
    finally:
        os.close(process)
    return True


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _make_or_adopt(places: RunDirectory, user: User) -> bool:
    """Without a keeper there are no namespaces, unless it was killed: whoever is still inside is joined then. Returns
    what enter() does."""
    record = Record.load(places.path)
    if record is not None:
        for pid in members(record.user, record.mount):
            if _join(pid, record):
                _start(places, None)
                return False
    means = find_means(user)
    _start(places, partial(_map_one, user) if means is None else partial(_map_all, user, means))
    if not _join_keeper(places.path):
        raise StoreError(f"the namespaces of {places.store} do not stay: see {places.log}", log=str(places.log))
    return means is None


def _start(places: RunDirectory, map_ids: Callable[[int], None] | None) -> None:
    """Start a keeper, and have its ids mapped by its pid; without that, one that adopts the namespaces that we are
    in."""
    told, tell = os.pipe()
    go, let_go = os.pipe()
    try:
        try:
            _spawn(places, tell, -1 if map_ids is None else go)
        finally:
            os.close(tell)
            os.close(go)
        answers = _Answers(told, places)
        answer = answers.next()
        if map_ids is not None and "pid" in answer:
            map_ids(answer["pid"])
            os.write(let_go, b"\n")
            answer = answers.next()
        if "errno" in answer:
            raise refusal(answer["errno"], f"{answer['what']} cannot be had")
    finally:
        os.close(told)
        os.close(let_go)


def _spawn(places: RunDirectory, tell: int, go: int) -> None:
    log = open_log(places.log)
    try:
        inherited = [tell, go] if go >= 0 else [tell]
        detached.spawn("runtime.namespace.keeper", [str(places.path), str(tell), str(go)], log, inherited)
    finally:
        os.close(log)


class _Answers:
    """The lines of JSON that a keeper writes."""

    def __init__(self, pipe: int, places: RunDirectory) -> None:
        self._pipe = pipe
        self._places = places
        self._rest = b""

    def next(self) -> dict[str, Any]:
        """StoreError if none comes in time."""
        deadline = time.monotonic() + _START_SECONDS
        while b"\n" not in self._rest:
            ready = select.select([self._pipe], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = os.read(self._pipe, 4096) if ready else b""
            if not data:
                log = self._places.log
                raise StoreError(
                    f"the keeper of {self._places.store}'s namespaces did not start: see {log}", log=str(log)
                )
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _map_one(user: User, pid: int) -> None:
    """Map the user's own ids, which the kernel lets him do by himself once setgroups(2) is forbidden inside."""
    process = Path("/proc", str(pid))
    (process / "uid_map").write_text(f"0 {user.uid} 1\n")
    (process / "setgroups").write_text("deny")
    (process / "gid_map").write_text(f"0 {user.gid} 1\n")


def _map_all(user: User, means: Means, pid: int) -> None:
    """Map his and those that the machine gives him, which only programs that are setuid root may."""
    _map(means.newuidmap, pid, arguments(user.uid, means.uids), user)
    _map(means.newgidmap, pid, arguments(user.gid, means.gids), user)


def _map(program: Path, pid: int, wanted: list[str], user: User) -> None:
    """Run newuidmap or newgidmap. Denied with what it says."""
    import subprocess

    try:
        done = subprocess.run(
            [program, str(pid), *wanted],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_MAP_SECONDS, check=False, cwd="/",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise StoreError(f"{program} does not end", program=str(program)) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        text = said[-1].removeprefix(f"{program.name}: ") if said else f"it exited with {done.returncode}"
        raise Denied(f"{program} refused: {text}", missing="map", user=user.name)
