"""A container's generations: a base commit with an upper on top, one after another.

A commit of a stopped container begins a new one, on the commit, whose upper is empty; the old one's is not needed any
more. A rollback begins one too, and keeps the old one, to which `undo` returns. Git keeps each generation's newest
commit as a ref. The ref's reflog goes on over generations: it tells where the container was, whatever happened, so that
`web@{1}` means one step back.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import suppress

import msgspec

from runtime.containers import CONTAINERS, Container, Containers, make_generation
from runtime.records import Generation
from vcs.errors import NotFound
from vcs.history import Author
from vcs.model import CommitId


def begin(
    containers: Containers,
    container: Container,
    base: CommitId,
    author: Author,
    reason: str,
    *,
    keep: bool,
    head: CommitId | None = None,
) -> Container:
    """Continue on `base` with an empty upper. The generation until now is kept, or deleted as `base` has it all.

    `head`: the newest commit of the state, where that is not `base`; what differs is then not committed yet. The caller
    holds the container's lock."""
    record, history = container.record, containers.store.history
    number = record.next_number
    ref = record.ref(number)
    history.move(ref, head or base, None, reason, author, force=True)
    history.continue_reflog(container.ref, ref)
    make_generation(container.paths, number)
    old = record.generation
    fresh = Generation(number, base, time.time(), old.number if keep else old.previous)
    others = record.generations if keep else _without(record.generations, old.number, number)
    changed = containers.replace(
        container, msgspec.structs.replace(record, generations=(*others, fresh), current=number)
    )
    if not keep:
        containers.discard(container, old.number)
    return changed


def go_back(containers: Containers, container: Container) -> Container:
    """Return to the generation before the last rollback, keeping the one that is left. NotFound if there is none."""
    record = container.record
    previous = record.generation.previous
    if previous is None:
        raise NotFound(f"{container.name!r} was not rolled back", container=container.name)
    kept = tuple(
        msgspec.structs.replace(generation, previous=record.current) if generation.number == previous else generation
        for generation in record.generations
    )
    return containers.replace(container, msgspec.structs.replace(record, generations=kept, current=previous))


def forget_left(containers: Containers) -> None:
    """Forget the generations that no record has, with refs and files: who was killed while he began one has left the
    new one or the old one, and it would be kept for as long as the container is."""
    refs: defaultdict[str, set[int]] = defaultdict(set)
    for name in containers.store.history.refs(CONTAINERS):
        identity, _, last = name.partition("/")
        if last.isdecimal():
            refs[identity].add(int(last))
    for container in containers.all():
        if _left(container, refs[container.id]):
            with suppress(NotFound), containers.changing(container) as now, containers.store.operations.silent():
                for number in _left(now, refs[now.id]):
                    containers.discard(now, number)
            containers.trash.empty()


def _left(container: Container, refs: set[int]) -> set[int]:
    files: set[int] = set()
    with suppress(FileNotFoundError):  # just removed
        files.update(int(name) for name in os.listdir(container.paths.generation(0).parent) if name.isdecimal())
    return (refs | files) - {generation.number for generation in container.record.generations}


def _without(generations: tuple[Generation, ...], old: int, new: int) -> tuple[Generation, ...]:
    """The generations less `old`; an undo that would have led to it leads to `new`."""
    return tuple(
        msgspec.structs.replace(generation, previous=new) if generation.previous == old else generation
        for generation in generations
        if generation.number != old
    )
