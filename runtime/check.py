"""Whether the containers of a store are whole: their records, and that the history has what they stand on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from runtime.branches.resolving import conflicts_of
from runtime.capturing.capture import SEEN
from runtime.containers import Container, Containers
from runtime.naming import Names
from runtime.records import ContainerPaths, Record, parse, render
from runtime.upper.seen import is_damaged
from vcs.check import Problem
from vcs.errors import TreeringError
from vcs.existing import is_there
from vcs.gitwords import Author
from vcs.store import Store


def check_containers(store: Store) -> list[Problem]:
    """What is wrong with containers' records. What was written in a container is not checked: it has no digest yet."""
    names = Names(store.path / "containers")
    found = []
    for directory in sorted((store.path / "containers").iterdir()):
        if not directory.name.startswith("."):
            found += _check(store, names, ContainerPaths(directory))
    return found


def _check(store: Store, names: Names, paths: ContainerPaths) -> list[Problem]:
    """What is wrong with a container. No lock is held, so that nobody waits for a check, and a check for nobody: what
    seems wrong with one that was changed or removed meanwhile is looked at again."""
    while True:
        data = _bytes(paths.record)
        found = [Problem("cache", message) for message in _damaged(paths)]
        if data is not None:
            found += _faults(store, names, paths, data)
        elif is_there(paths.directory):
            found.append(Problem("container", f"container {paths.directory.name} has no record"))
        if not found or _bytes(paths.record) == data:
            return found


def _bytes(path: Path) -> bytes | None:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return None


def _damaged(paths: ContainerPaths) -> list[str]:
    with suppress(FileNotFoundError):
        caches = [generation / SEEN for generation in (paths.directory / "gen").iterdir()]
        return [f"{cache} is damaged: it is not used, and nothing is lost" for cache in caches if is_damaged(cache)]
    return []


def keep_again(store: Store, author: Author) -> list[str]:
    """Make the refs that keep containers' generations, where they are missing and the commits are there; tells which. A
    copy of a store that was in use lacks some, and so does one in which an undo was killed by an older version."""
    containers = Containers(store)
    done: list[str] = []
    for container in containers.all():
        with suppress(TreeringError), containers.changing(container) as now, store.operations.silent():
            done += [
                f"generation {number} of container {now.name!r} is kept again" for number in _keep(store, now, author)
            ]
    return done


def _keep(store: Store, container: Container, author: Author) -> list[int]:
    done = []
    for generation in container.record.generations:
        ref = container.record.ref(generation.number)
        with suppress(TreeringError):  # its commit is not there
            if store.history.target(ref) is None:
                reason = f"container {container.name}: kept again"
                store.history.move(ref, generation.base, None, reason, author, force=True)
                done.append(generation.number)
    return done


def _faults(store: Store, names: Names, paths: ContainerPaths, data: bytes) -> list[Problem]:
    try:
        record = parse(data, paths)
    except TreeringError as error:
        return [Problem("container", str(error))]
    if data not in (render(record), render(record, with_digest=False)):
        told = [f"{paths.record} is damaged: it is not as it was written"]
    else:
        told = _disagreements(store, record, paths.directory)
    found = [Problem("container", message) for message in told]
    if not _knows(names, record.name, paths.directory.name):
        message = (
            f"the index of names is damaged: it does not know {record.name!r}. Remove {names.path}: it is made anew"
        )
        found.append(Problem("cache", message))
    return found


def _knows(names: Names, name: str, identity: str) -> bool:
    """Whether the index of names, if it is complete, says whose a name is."""
    with suppress(FileNotFoundError, TreeringError):
        return not names.is_complete or names.owner(name) == identity
    return True


def _disagreements(store: Store, record: Record, directory: Path) -> list[str]:
    found = []
    numbers = [generation.number for generation in record.generations]
    if record.id != directory.name or numbers.count(record.current) != 1 or len(set(numbers)) < len(numbers):
        found.append(f"the record of container {record.name!r} contradicts itself")
    if record.merging is not None:
        try:
            conflicts_of(store, record.merging)
        except TreeringError as error:
            found.append(f"the merge in container {record.name!r} cannot be continued: {error}")
    for generation in record.generations:
        try:
            store.history.info(generation.base)
        except TreeringError:
            found.append(f"container {record.name!r} stands on commit {generation.base}, which cannot be read")
        try:
            kept = store.history.target(record.ref(generation.number))
        except TreeringError:
            kept = None
        if kept is None:
            found.append(f"the history has no ref that keeps generation {generation.number} of {record.name!r}")
    return found
