"""A merge that waits in a container: its conflicts are settled there, and then it becomes a commit of its branch.

The merged root, with both sides of each conflict beside each other (vcs.merging.beside), is a commit on no branch, on
which a new container begins. So nothing of it is lost, whatever happens: the container's ref keeps it, and it has the
branch's commit, and the one that was to be merged, as its parents. Its message lists the conflicts, one a line:

    Conflict: {"path": "/etc/motd", "kind": "content", ..., "files": ["/etc/motd.ours", ...], "marked": true}

What the merge is to become is in the container's record (records.Merging). Where that is not there, there is no merge:
it begins when the record is made, and ends with the record, or when it becomes one without.

A conflict is settled when its side files are gone, and no marker is left in the file: `rm FILE.*` says what `git add`
says to git. Conflicts of the image config have no files; a side is chosen for them when the merge is continued.

To continue commits the container's state, moves the branch, and takes the merge out of the record, in this order. Who
is killed in between continues again: a container that stands on a commit with the merge's parents was committed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runtime.commits import CommitResult, Edit, first_line
from runtime.containers import Container, Containers
from runtime.records import Merging
from runtime.removal import remove_many
from runtime.settings import Health, Settings
from runtime.states import States
from vcs.blobreader import list_items
from vcs.errors import BadInput, Conflict, Corrupt, EngineError, Missing, NotFound
from vcs.history import BRANCHES, Author
from vcs.merging import Beside, Favour, Labels, MergeConflict, markers, merge_configs
from vcs.model import Chunked, CommitId, Data, Entry, RootId
from vcs.snapshot import Snapshot
from vcs.store import Store

_CONFLICT = "Conflict: "
_SHELL = Settings(
    args=("/bin/sh",), entrypoint=(), user="0", cwd="/", tty=True, interactive=True, health=Health(("NONE",))
)
"""Whatever the image would run has no business in a half-merged root: a shell waits, and can be entered."""


def labels_of(branch: str, base: CommitId, theirs: CommitId) -> Labels:
    """What markers in a text say."""
    return Labels(f"ours ({branch})", f"base ({base[:12]})", f"theirs ({theirs[:12]})")


@dataclass(frozen=True, slots=True)
class Plan:
    """A merge that is to wait in a container. What has no docstring here is as in records.Merging."""

    branch: str
    base: CommitId
    theirs: CommitId
    asked: CommitId
    """The commit that the user named; from it and the branch, all that the merge needs is reachable."""
    parents: tuple[CommitId, ...]
    message: str
    root: RootId
    config: dict[str, Any]
    conflicts: Sequence[Beside]
    decided: str


def begin(containers: Containers, name: str | None, plan: Plan, author: Author) -> Container:
    """Make a container in which a merge is under way. AlreadyExists, InvalidName."""
    store = containers.store
    lines = [_CONFLICT + _line(conflict) for conflict in plan.conflicts]
    text = f"Unfinished: {first_line(plan.message)}\n" + ("\n" + "\n".join(lines) + "\n" if lines else "")
    parents = tuple(dict.fromkeys((plan.parents[0], plan.asked)))
    with store.writing():
        start = store.add_commit(plan.root, plan.config, text, author, parents, is_draft=True)
        merging = Merging(start, plan.branch, plan.base, plan.theirs, plan.parents, plan.message, plan.decided)
        return containers.create(plan.branch, start, _SHELL, author, name, merging)


# -- what is under way


@dataclass(frozen=True, slots=True)
class Left:
    """A conflict that is not settled."""

    conflict: MergeConflict
    files: tuple[bytes, ...]
    """The side files that are still there."""
    has_markers: bool


def find(containers: Containers, name: str | None) -> tuple[Container, Merging]:
    """The container of this name, in which a merge is under way; without a name, the only such. NotFound, BadInput."""
    if name is not None:
        container = containers.find(name)
        if container.record.merging is None:
            raise NotFound(f"no merge is under way in container {container.name!r}", merging=container.name)
        return container, container.record.merging
    found = [(one, one.record.merging) for one in containers.all() if one.record.merging is not None]
    if not found:
        raise NotFound("no merge is under way in any container", merging="")
    if len(found) > 1:
        names = [container.name for container, _ in found]
        raise BadInput(f"merges are under way in {', '.join(names)}: say which is meant", merging=names)
    return found[0]


def conflicts_of(store: Store, merging: Merging) -> list[Beside]:
    """The conflicts that a merge began with. Corrupt if its commit does not tell."""
    lines = store.commit(merging.start).message.split("\n")
    try:
        return [_parsed(line.removeprefix(_CONFLICT)) for line in lines if line.startswith(_CONFLICT)]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"commit {merging.start} has no valid list of conflicts", commit=merging.start) from error


def left(containers: Containers, container: Container, merging: Merging) -> list[Left]:
    """The conflicts that are not settled in the container as it is now."""
    conflicts, states = conflicts_of(containers.store, merging), States(containers)
    marked = {one.conflict.path for one in conflicts if one.is_marked}
    _, state = states.compare(container)
    if marked:
        wanted = {digest for path in marked for digest in _chunks(state, state.find(path))}
        _, state = states.compare(container, wanted=wanted)
        lines = markers(labels_of(merging.branch, merging.base, merging.theirs))
        marked = {path for path in marked if _has_markers(state, state.find(path), lines)}
    found = []
    for one in conflicts:
        there = tuple(path for path in one.files if state.find(path) is not None)
        is_marked = one.is_marked and one.conflict.path in marked
        if there or is_marked or one.conflict.kind == "config":
            found.append(Left(one.conflict, there, is_marked))
    return found


def _chunks(state: Snapshot, entry: Entry | None) -> Iterator[bytes]:
    content = entry.content if entry is not None else None
    if isinstance(content, Data):
        yield content.chunk
    elif isinstance(content, Chunked):
        yield from (item.digest for item in list_items(state.objects, content.list))


def _has_markers(state: Snapshot, entry: Entry | None, markers: tuple[bytes, ...]) -> bool:
    if entry is None or not isinstance(entry.content, (Data, Chunked)):
        return False
    try:
        data = state.read(entry.content)
    except Missing:
        return True  # somebody wrote to it just now: nobody knows what, so it is not settled yet
    return any(b"\n" + marker in b"\n" + data + b"\n" for marker in markers)


# -- its end


@dataclass(frozen=True, slots=True)
class Finished:
    """What became of a merge that was to be continued."""

    left: Sequence[Left]
    """Why it was not."""
    result: CommitResult | None = None


def finish(
    containers: Containers,
    container: Container,
    merging: Merging,
    author: Author,
    *,
    message: str | None = None,
    favour: Favour = None,
    changes: Sequence[Edit] = (),
    command: str | None = None,
    trailers: Mapping[str, str] | None = None,
    verify: bool = True,
) -> Finished:
    """Commit the container's state as the merge, on the branch, if no conflict is left; the container goes on from it.

    `favour` decides conflicts of the image config, of which `changes` are further edits; `command` is told as what was
    run. `trailers` and `verify` are as in States.commit. Conflict, with nothing changed, if the branch has moved since.
    """
    store, states = containers.store, States(containers)
    with store.writing():
        unsettled = [
            one for one in left(containers, container, merging) if one.conflict.kind != "config" or favour is None
        ]
        if unsettled:
            return Finished(unsettled)
        head, tip = states.head(container), store.history.target(BRANCHES + merging.branch)
        is_committed = head != merging.start and store.commit(head).parents == merging.parents
        if tip != merging.parents[0] and not (is_committed and tip == head):
            raise _moved(container, merging, tip)
        count = len(conflicts_of(store, merging))
        said = f"{count}, settled in {container.name}" if count else merging.decided
        told = {"Conflicts": said} if said else {}
        result = states.commit(
            container,
            message or merging.message,
            author,
            branch=merging.branch,
            parents=(head,) if is_committed else merging.parents,
            trailers={**told, **({"Command": command} if command else {}), **(trailers or {})},
            changes=[*_config_edits(store, merging, favour), *changes],
            verify=verify,
        )
        with containers.changing(container) as now:
            containers.replace(now, msgspec.structs.replace(now.record, merging=None))
        return Finished((), result)


def finish_by(
    containers: Containers,
    container: Container,
    command: str,
    author: Author,
    trailers: Mapping[str, str] | None = None,
    *,
    verify: bool = True,
) -> CommitResult:
    """Run a shell command in the container of a merge without conflicts, and finish the merge; the container goes.

    EngineError with what the command said, and no merge, if it fails.
    """
    from runtime.hooks import run_in
    from runtime.running import start

    try:
        start(containers, container, author, detach=True)
        code, said = run_in(container, command)
        if code:
            message = f"the command failed with exit code {code}, so nothing was merged" + (f": {said}" if said else "")
            raise EngineError(message, command=command, code=code, output=said)
        done = finish(
            containers, *find(containers, container.name), author, command=command, trailers=trailers, verify=verify
        )
        assert done.result is not None
        return done.result
    finally:
        list(remove_many(containers, [container], author, force=True, discard=True))


def abort(containers: Containers, container: Container, author: Author) -> None:
    """End a merge, and its container, which may run; what was done there is kept as a last state, as by `rm`."""
    for removed in remove_many(containers, [container], author, force=True, discard=False):
        if removed.error is not None:
            raise removed.error


def _config_edits(store: Store, merging: Merging, favour: Favour) -> list[Edit]:
    """What makes of the image config, in which ours stands where both clash, one that has the favoured side there."""
    if favour != "theirs":
        return []
    was, had, got = map(store.history.config, (merging.base, merging.parents[0], merging.theirs))
    start, favoured = store.history.config(merging.start), merge_configs(was, had, got, favour)[0]
    return [lambda config: merge_configs(start, config, favoured, "ours")[0]]


def _moved(container: Container, merging: Merging, tip: CommitId | None) -> Conflict:
    branch, ours = merging.branch, merging.parents[0]
    where = f"is at {tip[:12]}" if tip else "is gone"
    return Conflict(
        f"branch {branch!r} {where}, and the merge in container {container.name!r} is one into {ours[:12]}; "
        "nothing was changed",
        merging=container.name, moved=branch, start=ours,
    )  # fmt: skip


# -- conflicts as lines


def _line(one: Beside) -> str:
    conflict = one.conflict
    fields = {
        "path": os.fsdecode(conflict.path), "kind": conflict.kind, "ours": conflict.ours, "theirs": conflict.theirs,
        "detail": conflict.detail, "files": [os.fsdecode(path) for path in one.files], "marked": one.is_marked,
    }  # fmt: skip
    return json.dumps(fields)


def _parsed(line: str) -> Beside:
    fields = json.loads(line)
    conflict = MergeConflict(
        fields["kind"], os.fsencode(fields["path"]), fields["ours"], fields["theirs"], fields["detail"]
    )
    return Beside(conflict, tuple(map(os.fsencode, fields["files"])), bool(fields["marked"]))
