"""What must be so when a flood is over: nothing acknowledged is lost, nothing is damaged, and nothing is left."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from runtime.engine import remove_cgroups
from tests.flood import contents, processes
from tests.flood.command import run
from tests.flood.place import Acknowledged, Place
from tests.support import cgroups
from tests.support.collecting import git_fsck
from tests.support.deadline import abort_below
from tests.torture.leftovers import identities
from vcs.errors import TreeringError
from vcs.model import CommitId
from vcs.store import Store

_FEW = 30
"""So many branches are deleted by a command each, for more that takes too long."""
_WAIT = 60.0
"""Seconds in which what was told to end has to be gone."""
_STAYS = re.compile(
    r"format|index\.db(-shm|-wal)?|operations\.(log|reflogs)|history\.git/.*|locks/.*"
    r"|containers/\.names/\.complete|caches/images(\.lock|/oci-layout)|run/filters/.*|run/engine/\.cache/.*|run/\w+\.(lock|log)"
)
"""Files that a store has or keeps when nothing is in it any more."""


def judge(place: Place, deadline: float) -> Iterator[str]:
    """Findings: first the store as it is, then without its garbage, then without anything."""
    yield from all_end(place, deadline)
    yield from _is_whole(place, deadline)
    yield from _lost(place)
    serves = not run(place, "service", "stop", forked=False).ok  # then gc keeps what it shows, whoever needs that
    # A little garbage may stay beside what is needed, but not when all is written anew.
    for repack in ([], ["--repack"]):
        yield from _must(place, deadline, "gc", "--expire", place.expire, *repack)
        yield from _is_whole(place, deadline, garbage=serves or not repack)
        yield from _lost(place)
    yield from remove_all(place, deadline)


def all_end(place: Place, deadline: float) -> Iterator[str]:
    """Commands whose workers were killed come to their end by themselves."""
    until = time.monotonic() + deadline
    while (going_on := _going_on(place)) and time.monotonic() < until:
        # A supervisor or the monitor is a command that goes on as long as its container.
        _quiet(place, "rm", "-f", "--all", "--discard")
        time.sleep(0.2)
    for pid in going_on:
        yield f"process {pid} has not ended:\n{processes.stacks(place.directory)}"
        processes.kill(pid, place.directory)


def _going_on(place: Place) -> list[int]:
    """Commands, and what will be one: a worker that is killed while it starts a command leaves one that still looks
    like itself."""
    return [one.pid for one in processes.of(place.directory) if one.role in ("command", "worker")]


def _is_whole(place: Place, deadline: float, *, garbage: bool = True) -> Iterator[str]:
    done = run(place, "fsck", "--read-data", forked=False)
    if not done.ok:
        yield f"fsck: {done.code} {done.out[-3000:]} {done.err[-2000:]}"
    elif not garbage and done.value["unreachable"]:
        yield f"after gc --repack, fsck finds garbage: {done.value['unreachable']} objects"
    with Store.open(place.store) as store:
        if told := git_fsck(store):
            yield f"git fsck: {told}"


def _lost(place: Place) -> Iterator[str]:
    """What was acknowledged and is not there, is another, or has no name though nobody took one away."""
    with Store.open(place.store) as store:
        named = set(store.history.commit_ids())
        seen: dict[str, str] = {}
        for one in place.acknowledged():
            if one.commit not in seen:
                seen[one.commit] = _digest(store, one)
            if seen[one.commit] != one.digest:
                yield f"{one}: {seen[one.commit]}"
            elif not place.keeps_operations and one.commit not in named:
                yield f"{one}: no ref leads there"
        yield from _overwritten(store, place)


def _digest(store: Store, one: Acknowledged) -> str:
    try:
        return contents.found(store.snapshot(store.commit(CommitId(one.commit)).root))
    except TreeringError as error:
        return f"lost: {type(error).__name__}: {error}"


def _overwritten(store: Store, place: Place) -> Iterator[str]:
    """Moves of a ref that do not begin where the last one ended, though that was acknowledged."""
    acknowledged = {one.commit for one in place.acknowledged()}
    at: dict[str, str | None] = {}
    for operation in store.operations.read():
        for ref, (old, new) in operation.refs.items():
            if ref in at and at[ref] != old and at[ref] in acknowledged and ref.startswith("refs/heads/"):
                yield f"{ref} moved from {old} to {new} in operation {operation.id}, but was at {at[ref]}"
            at[ref] = new


# -- away with it


def remove_all(place: Place, deadline: float) -> Iterator[str]:
    """Remove everything by commands; whatever then is left is a finding."""
    identities = {path.name for path in (place.store / "containers").iterdir() if len(path.name) == 64}
    yield from _must(place, deadline, "rm", "-f", "--all", "--discard")
    for kind in ("branch", "tag"):
        listed = run(place, kind)
        if not listed.ok:
            yield f"{kind}: {listed.code} {listed.err[-3000:]}"
            continue
        names = [one["name"] for one in listed.value]
        for name in names if len(names) < _FEW else ():
            yield from _must(place, deadline, kind, "-d", name)
        if len(names) >= _FEW:
            with Store.open(place.store) as store:
                store.history.delete_all(f"refs/{'heads' if kind == 'branch' else 'tags'}/{name}" for name in names)
    for mount in (place.directory / "mounts").iterdir() if (place.directory / "mounts").exists() else ():
        _quiet(place, "umount", str(mount))
    _quiet(place, "service", "stop")
    # Twice: what removed containers were is as young as the first collection.
    for _ in range(2):
        yield from _must(place, deadline, "gc", "--expire", "now")
    _quiet(place, "service", "stop")
    yield from _left(place, identities)


def _left(place: Place, identities: set[str]) -> Iterator[str]:
    checks: list[tuple[str, Callable[[], list[str]]]] = [
        ("processes", lambda: [f"{one.pid} {one.role}" for one in processes.of(place.directory)]),
        ("mounts", lambda: mounts(place.directory)),
        ("cgroups", lambda: _cgroups(identities)),
        ("files", lambda: _files(place.store)),
    ]
    for name, check in checks:
        until = time.monotonic() + _WAIT
        while (left := check()) and time.monotonic() < until:
            time.sleep(0.1)
        if left:
            yield f"{name} left: {left[:20]}"


def mounts(directory: Path) -> list[str]:
    """Mounts of the flood, in whatever mount namespace."""
    found: dict[str, None] = {}
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()
            found.update(dict.fromkeys(line for line in lines if f"{directory}/" in line))
    return list(found)


def _cgroups(identities: set[str]) -> list[str]:
    return [str(path) for one in identities for path in cgroups.of_container(one)]


def _files(store: Path) -> list[str]:
    """Files that an empty store has not."""
    left = []
    for path in store.rglob("*"):
        name = path.relative_to(store).as_posix()
        if path.is_file() and not _STAYS.fullmatch(name):
            left.append(name)
    return sorted(left)


def give_up(place: Place, *, keep: bool = False) -> None:
    """Whatever is left of a flood goes, by force, so that the machine is as it was; with `keep` files stay."""
    until = time.monotonic() + _WAIT
    while (found := list(processes.of(place.directory))) and time.monotonic() < until:
        for one in found:  # while some still start others
            processes.kill(one.pid, place.directory)
        abort_below(place.directory)  # who waits for a service that is gone cannot be killed
    stores = [place.store, *place.directory.glob(f"*/{place.store.name}")]
    made = set().union(*map(identities, stores))
    while (groups := _cgroups(made)) and time.monotonic() < until:
        for path in groups:  # a container's own processes know nothing of the directory
            remove_cgroups(Path(path).name[9:])
    for line in mounts(place.directory):
        point = line.split()[4]
        if point.startswith(str(place.directory)):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
    if keep:
        return
    if os.path.ismount(place.directory):
        subprocess.run(["umount", "-l", str(place.directory)], check=True)
    # Not shutil.rmtree: it calls itself for each level, of which there may be a thousand.
    subprocess.run(["rm", "-rf", str(place.directory)], check=False)
    assert not os.path.lexists(place.directory), f"{place.directory} cannot be removed"


def _must(place: Place, deadline: float, *arguments: str) -> Iterator[str]:
    done = run(place, *arguments, forked=False)
    if not done.ok:
        yield f"{' '.join(arguments)}: {done.code} {done.out[-1000:]} {done.err[-3000:]}"
    if done.seconds > deadline:
        yield f"{' '.join(arguments)} took {done.seconds:.0f} s"


def _quiet(place: Place, *arguments: str) -> None:
    run(place, *arguments, forked=False)
