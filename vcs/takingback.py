"""Operations taken back: which one is next, and what refs are to be then.

Undo takes back the newest operation that is not taken back itself, redo the newest undo, as long as nothing else was
done since. Each is an operation too, whose changes are the other's backwards; so a redo is the undo of an undo, and it
is enough to know how one operation is inverted.

Refs move together or not at all. Under the lock it is first seen that each is where the operation left it; then all
moves are written down in `STORE/operations.moves`, with the operation's own line; then the line is added and the moves
are made; then, once the line is durable, the file goes. Whoever opens the history and finds the file makes what is
missing. Directories that were made beside their places come there with the refs, after them (Arrivals).
"""

from __future__ import annotations

import errno
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vcs.durable import replace_file, sync_directory
from vcs.errors import Conflict, Corrupt, Denied, NoSpace, NotFound, TreeringError, UnknownFormat, suppress_errno
from vcs.existing import is_there
from vcs.gitwords import BRANCHES, TAGS, Author, kind, short
from vcs.model import CommitId
from vcs.operationlines import Change, ContainerChange, Operation, operation_of
from vcs.operations import Operations
from vcs.reflogs import seal

if TYPE_CHECKING:
    from vcs.history import History

_VERSION = 1
_SEAL_SIZE = 10
_CANNOT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})
_MANY = 16
"""So many refs that come back get one file for all (packed-refs); fewer, one each."""
_NONE: Mapping[str, str | None] = MappingProxyType({})
_NOWHERE: Mapping[str, str] = MappingProxyType({})
Moves = Mapping[str, Change]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Containers that come back together with refs."""

    containers: Mapping[str, ContainerChange] = field(default_factory=dict)
    """What the log says of them, by their ids."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Their directories, durable with all that is in them, and where each belongs: paths in the store."""


_NOBODY = Arrivals()


def stacks(operations: Iterable[Operation]) -> tuple[list[Operation], list[Operation]]:
    """What undo takes back, and what redo does, each with the next one last.

    After a redo, it stands for what it has done again. What was taken back, or done again, in part only is still next;
    what then does the rest under another id, since there was another command in between, stands for all of it. A redo
    that has done a part can be taken back as well, as any command that was killed; then all of it is to be done again,
    also if there was another command in between.
    """
    undoable: dict[str, Operation] = {}
    redoable: dict[str, Operation] = {}
    parts: defaultdict[tuple[str, str], list[Operation]] = defaultdict(list)
    halves: dict[str, Operation] = {}
    for one in operations:
        if one.is_partial:
            parts[one.kind, one.of].append(one)
            if one.kind == "redo" and one.of in redoable:
                undoable[one.id], halves[one.id] = one, redoable[one.of]
            continue
        done = parts.pop((one.kind, one.of), ())
        one = _whole(done, one)
        if one.kind == "undo":
            undoable.pop(one.of, None)
            whole = halves.pop(one.of, one)
            parts.pop(("redo", whole.id), None)
            redoable[whole.id] = whole
        elif one.kind == "redo":
            for part in done:
                undoable.pop(part.id, None)
            redoable.pop(one.of, None)
            undoable[one.id] = one
        else:
            undoable[one.id] = one
            redoable.clear()
    return list(undoable.values()), list(redoable.values())


def _whole(parts: Sequence[Operation], last: Operation) -> Operation:
    """An operation together with what was done of it before: from where the first began to where the last ended."""
    if not parts:
        return last
    refs: dict[str, Change] = {}
    containers: dict[str, ContainerChange] = {}
    for one in (*parts, last):
        for ref, change in one.refs.items():
            refs[ref] = Change(refs.get(ref, change).old, change.new)
        for name, record in one.containers.items():
            containers[name] = ContainerChange(containers.get(name, record).old, record.new)
    return replace(last, refs=refs, containers=containers, parts=tuple(parts))


def origin(by_id: Mapping[str, Operation], one: Operation) -> Operation:
    """What an undo or a redo is about in the end: the command that was taken back or done again; itself otherwise."""
    while one.kind in ("undo", "redo") and one.of in by_id:
        one = by_id[one.of]
    return one


def next_undo(operations: Operations) -> Operation:
    """The operation that undo takes back. NotFound if there is none."""
    undoable, _ = stacks(operations.read())
    if not undoable:
        message = "there is nothing to undo: the operation log has no operation that was not taken back"
        raise NotFound(message, operation="")
    return undoable[-1]


def next_redo(operations: Operations) -> Operation:
    """The undo that redo takes back. NotFound if there is none, or if something else was done since."""
    _, redoable = stacks(operations.read())
    if not redoable:
        raise NotFound(
            "there is nothing to redo: nothing was taken back, or something else was done since", operation=""
        )
    return redoable[-1]


def inverse(refs: Moves) -> dict[str, Change]:
    """The changes backwards."""
    return {ref: Change(new, old) for ref, (old, new) in refs.items()}


def later(operations: Iterable[Operation], until: str) -> list[Operation]:
    """The operations after one (by its id)."""
    after = iter(operations)
    for one in after:
        if one.id == until:
            break
    return list(after)


def restoring(
    operations: Iterable[Operation], until: str, prefixes: tuple[str, ...] = (BRANCHES, TAGS)
) -> dict[str, Change]:
    """The changes that make all branches and tags what they were after an operation (by its id), from where the log
    says that they are. With other prefixes, other refs."""
    found: dict[str, Change] = {}
    for one in later(operations, until):
        for ref, (old, new) in one.refs.items():
            if ref.startswith(prefixes):
                found[ref] = Change(new, found[ref].new if ref in found else old)
    return {ref: change for ref, change in found.items() if change.old != change.new}


def deleters(operations: Iterable[Operation]) -> dict[str, str]:
    """For each ref that one of some operations has deleted, the first that did."""
    found: dict[str, str] = {}
    for one in (part for whole in operations for part in (*whole.parts, whole)):
        for ref in (ref for ref, change in one.refs.items() if change.new is None):
            found.setdefault(ref, one.id)
    return found


def check_moves(
    history: History, moves: Moves, unsure: Mapping[str, str | None] = _NONE, *, force: bool = False
) -> dict[str, Change]:
    """The moves that are still to be made, from where refs are now. Conflict if a ref is neither where it is to come
    from (or perhaps is: Operation.unsure) nor where it is to go to, unless `force`; NotFound if gc has removed where it
    is to go to. The caller holds the lock on refs, or makes sure again when he does."""
    found: dict[str, Change] = {}
    for ref, (old, new) in moves.items():
        now = history.target(ref)
        if now == new:
            continue
        if now != old and not force and now != unsure.get(ref, old):
            raise Conflict(_elsewhere(ref, old, now), ref=ref, left=old, now=now)
        if new is not None and not history.has(new):
            raise NotFound(f"{kind(ref)} {short(ref)!r} was at {new[:12]}, which gc has removed since", revision=new)
        found[ref] = Change(now, new)
    _check_room(history, found)
    return found


def move_all(
    history: History,
    operations: Operations,
    moves: Moves,
    reason: str,
    author: Author,
    unsure: Mapping[str, str | None] = _NONE,
    *,
    deleted: Mapping[str, str] = _NOWHERE,
    arrivals: Arrivals = _NOBODY,
    force: bool = False,
) -> dict[str, Change]:
    """Make moves, all or none, as a step of the operation that was begun; returns those that were needed.

    `deleted` are the operations that have deleted refs which come back: these get the reflogs that they had.
    Raises what check_moves() does.
    """
    with history.locked():
        needed = check_moves(history, moves, unsure, force=force)
        if not needed and not arrivals.places:
            return {}
        line = operations.line(needed, arrivals.containers, author, reason)
        who = [author.name, author.email, author.time, author.offset]
        coming = {ref: deleted[ref] for ref, change in needed.items() if change.old is None and ref in deleted}
        fields = {
            "version": _VERSION, "line": line.decode(), "refs": needed, "deleted": coming, "reason": reason,
            "author": who, "places": dict(arrivals.places),
        }  # fmt: skip
        data = json.dumps(fields).encode()
        replace_file(operations.moves, data + seal(data) + b"\n")
        _finish(history, operations)
        return needed


def finish_moves(history: History, operations: Operations) -> None:
    """Make the moves that a killed process has written down and not made. Who cannot write leaves them to others.

    Whatever else keeps him from it is raised: he would go on with refs of which some have moved.
    """
    with suppress_errno(_CANNOT_WRITE), suppress(Denied, NoSpace), history.locked():
        _finish(history, operations)


def _finish(history: History, operations: Operations) -> None:
    path = operations.moves
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    fields = _decoded(data, path)
    line = fields["line"].encode()
    if not operations.has(line):
        operations.append(line)
    author = Author(*fields["author"])
    moves = {ref: Change(*change) for ref, change in fields["refs"].items()}
    operations.kept.keep(operation_of(line), [ref for ref, change in moves.items() if change.new is None])
    deleted = {ref: operations.kept.lines(by, ref) for ref, by in fields.get("deleted", {}).items() if ref in moves}
    with operations.silent():
        _make_all(history, moves, deleted, fields["reason"], author)
        for ref in deleted:
            if history.target(ref) == moves[ref].new:
                operations.kept.bring_back(fields["deleted"][ref], ref)
    for made, place in fields.get("places", {}).items():
        _put(path.parent / made, path.parent / place)
    operations.kept.flush()
    operations.sync()  # without its line, what was taken back would be next again, and cannot be taken back twice
    path.unlink()
    sync_directory(path.parent)


def _make_all(
    history: History, moves: Moves, reflogs: Mapping[str, Sequence[bytes]], reason: str, author: Author
) -> None:
    """Make those that were not made yet. Not where somebody has moved a ref since: another program, for ours wait for
    the lock. What goes, and what comes, does so at once: one by one, each waits for the disk several times."""
    left = {ref: change for ref, change in moves.items() if history.target(ref) == change.old != change.new}
    if gone := [ref for ref, change in left.items() if change.new is None]:
        history.delete_all(gone)  # first: they make room
    head = history.head()
    coming = {
        ref: CommitId(new)
        for ref, (old, new) in left.items()
        if old is None and new is not None and ref != head and _is_commit(history, new)
    }
    if len(coming) >= _MANY:
        history.name_all(coming, reason, author, reflogs)
    for ref, (old, new) in left.items():
        # HEAD's branch has a line in HEAD's reflog too; what a tag object leads to would have to be in packed-refs.
        if new is not None and history.target(ref) == old:
            with suppress(NotFound):
                history.move(ref, CommitId(new), CommitId(old) if old else None, reason, author)


def _is_commit(history: History, oid: str) -> bool:
    """Damage is told of by whoever reads the commit: refs lead there as before."""
    try:
        return history.raw(oid).startswith(b"tree ")
    except TreeringError:
        return False


def _put(made: Path, place: Path) -> None:
    """Not if that was done already: a process was killed just after it."""
    if not is_there(place):
        with suppress(FileNotFoundError):
            made.rename(place)
    sync_directory(place.parent)


def _check_room(history: History, moves: Moves) -> None:
    """A ref that comes back needs its place: `main` cannot be beside `main/sub`."""
    coming = [ref for ref, change in moves.items() if change.new is not None and change.old is None]
    if not coming:
        return
    going = {ref for ref, change in moves.items() if change.new is None}
    staying = {f"refs/{name}" for name in history.refs("refs/")} - going
    inside = {directory: other for other in staying for directory in _above(other)}
    for ref in coming:
        other = next((name for name in _above(ref) if name in staying), inside.get(ref))
        if other is not None:
            raise Conflict(
                f"{kind(other)} {short(other)!r} exists, so {short(ref)!r} cannot come back",
                ref=other, left=None, now=None,
            )  # fmt: skip


def _above(ref: str) -> list[str]:
    """The directories that a ref is in. None of them can be a ref: it is a file or a directory."""
    names = ref.split("/")
    return ["/".join(names[:count]) for count in range(1, len(names))]


def _decoded(data: bytes, path: Path) -> dict[str, Any]:
    try:
        text = data.removesuffix(b"\n")
        if text[-_SEAL_SIZE:] != seal(text[:-_SEAL_SIZE]):
            raise ValueError
        fields: dict[str, Any] = json.loads(text[:-_SEAL_SIZE])
        if not isinstance(fields, dict):
            raise ValueError
    except (ValueError, RecursionError):
        raise Corrupt(f"{path} is damaged: it is not as it was written", path=str(path)) from None
    if fields.get("version") != _VERSION:
        message = f"{path} has version {fields.get('version')}, this program knows {_VERSION}"
        raise UnknownFormat(message, path=str(path), found=fields.get("version"))
    return fields


def _elsewhere(ref: str, expected: str | None, now: str | None) -> str:
    where = f"is at {now[:12]}" if now else "is gone"
    left = f"at {expected[:12]}" if expected else "deleted"
    return f"{kind(ref)} {short(ref)!r} {where}, and the operation left it {left}; nothing was changed"
