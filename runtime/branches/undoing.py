"""Operations taken back, containers included. vcs.takingback knows which is next, and how refs move together.

What becomes of a container that an operation has

    made       it is removed, and its last state kept, as `rm` does
    removed    it is made again: its id, name and settings, on the states that `rm` has kept, with its head where it was
    renamed, given other settings, rolled back    the record says again what it said before
    committed  its head is where it was; its files stay as they are, so that what was committed has changed since

A running container's record, name and files are never touched: Conflict. Its head may go back, which it does not
notice.

Everything is looked at before anything is changed. Then containers change, one after another, and at last all refs at
once, with the containers that are made again: what can be refused comes first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from runtime import idranges
from runtime.containers import CONTAINERS, REMOVED, Container, Containers
from runtime.records import Generation, Record, record_of
from runtime.removal import remove
from runtime.state import is_running
from vcs.errors import Conflict, NotFound
from vcs.history import Author
from vcs.model import CommitId
from vcs.operationlines import Change, ContainerChange, Kind, Operation
from vcs.store import Store
from vcs.takingback import check_moves, deleters, inverse, later, move_all


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to take back an operation, or to go back to one."""

    operation: Operation
    kind: Kind
    moves: Mapping[str, Change]
    """For each ref that moves, from where it is now."""
    made: Sequence[Container] = ()
    """These are removed."""
    removed: Sequence[Record] = ()
    """These are made again."""
    changed: Sequence[tuple[Container, Record]] = ()
    """These get such a record."""
    anywhere: bool = False
    """Refs move from wherever they are."""
    deleted: Mapping[str, str] = field(default_factory=dict)
    """For refs that come back, the operations that have deleted them."""

    def told(self) -> Iterator[tuple[str, str]]:
        """What becomes of which container."""
        for container in self.made:
            yield container.name, "removed"
        for record in self.removed:
            yield record.name, "made again"
        for container, record in self.changed:
            if container.name != record.name:
                yield container.name, f"called {record.name}"
            if container.record.settings != record.settings:
                yield container.name, "given the settings it had"
            if container.record.merging != record.merging:
                yield container.name, "in the midst of a merge" if record.merging else "not in the midst of a merge"
            if container.record.current != record.current:
                yield container.name, "taken to the state it had"


def plan_inverse(containers: Containers, operation: Operation, kind: Kind) -> Plan:
    """How to take an operation back. Conflict, with nothing changed, if something is not as the operation left it;
    NotFound if gc has removed what is needed for it."""
    with containers.store.history.locked():  # so that what gc has removed is known to be gone
        return _Planning(containers, operation, kind).plan()


def plan_restore(store: Store, operation: Operation, moves: Mapping[str, Change]) -> Plan:
    """How to make all branches and tags what they were after an operation. NotFound, as above."""
    deleted = deleters(later(store.operations.read(), operation.id))
    return Plan(operation, "restore", check_moves(store.history, moves, force=True), anywhere=True, deleted=deleted)


def carry_out(containers: Containers, plan: Plan, args: Sequence[str], author: Author) -> None:
    """Do it, as an operation of its own that is called by `args`. Conflict, as above."""
    store = containers.store
    operations = store.operations
    operations.begin(
        args, lambda: author, plan.kind, plan.operation.id, has_end=bool(plan.made or plan.removed or plan.changed)
    )
    for container, record in plan.changed:
        _change(containers, container, record)
    for container in plan.made:
        remove(containers, container, author, discard=False)
    reason = f"{plan.kind}: operation {plan.operation.id}"
    with containers.coming_back(plan.removed) as arrivals:
        operations.begin_last_step()
        moves = {**_kept(store, plan), **plan.moves}
        move_all(
            store.history, operations, moves, reason, author, deleted=plan.deleted, arrivals=arrivals,
            force=plan.anywhere,
        )  # fmt: skip
    with store.history.locked():
        operations.note_end(author)


def _kept(store: Store, plan: Plan) -> dict[str, Change]:
    """The refs that containers which come back need and that nobody has noted as deleted: who removed the container
    was just about to when this was planned, or was killed before, and gc has done it. To be asked while nobody makes or
    removes any."""
    found = {
        record.ref(generation.number): Change(None, generation.base)
        for record in plan.removed
        for generation in record.generations
    }
    return {ref: change for ref, change in found.items() if store.history.target(ref) is None}


def _change(containers: Containers, container: Container, record: Record) -> None:
    if container.name != record.name:
        containers.rename(container, record.name)
    with containers.changing(container) as now:
        if is_running(now.paths.directory):
            raise _runs(now)
        if msgspec.structs.replace(now.record, name=container.name) != container.record:
            raise _is_other(now)
        containers.replace(now, record)


@dataclass(slots=True)
class _Planning:
    """One plan in the making."""

    containers: Containers
    operation: Operation
    kind: Kind
    moves: dict[str, Change] = field(default_factory=dict)
    made: list[Container] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """The ids of those that are removed already: an undo that was killed has done it."""
    removed: list[Record] = field(default_factory=list)
    changed: list[tuple[Container, Record]] = field(default_factory=list)

    def plan(self) -> Plan:
        heads: defaultdict[str, dict[str, Change]] = defaultdict(dict)
        for ref, move in self.operation.refs.items():
            if ref.startswith(CONTAINERS):
                heads[ref.removeprefix(CONTAINERS).partition("/")[0]][ref] = move
            else:
                self.moves |= inverse({ref: move})
        there = {container.id: container for container in self.containers.all()}
        for identity in dict.fromkeys((*self.operation.containers, *heads)):
            change = self.operation.containers.get(identity, ContainerChange(None, None))
            self._container(there, identity, change, heads[identity])
        # Their removal keeps their states itself.
        kept = tuple(f"{REMOVED}{identity}/" for identity in (*self.gone, *(container.id for container in self.made)))
        moves = {ref: move for ref, move in self.moves.items() if not ref.startswith(kept)}
        needed = check_moves(self.containers.store.history, moves, self.operation.unsure)
        deleted = deleters([self.operation])
        return Plan(self.operation, self.kind, needed, self.made, self.removed, self.changed, deleted=deleted)

    def _container(
        self, there: Mapping[str, Container], identity: str, change: ContainerChange, heads: Mapping[str, Change]
    ) -> None:
        old, new = (record_of(fields) if fields else None for fields in change)
        container = there.get(identity)
        if old and not new:
            self._make_again(there, old, heads)
        elif container is None:
            if old:
                raise Conflict(f"container {old.name!r} was removed since; nothing was changed", undoing=old.name)
            self.gone.append(identity)
        elif new and not old:
            self._take_away(container, heads.get(new.ref(new.current)))
        elif old and new:
            self._put_back(container, old, new, heads)
        else:
            for head in heads.values():
                self._move_head(container, head.old, head.new)

    def _make_again(self, there: Mapping[str, Container], old: Record, heads: Mapping[str, Change]) -> None:
        if old.id in there:  # it was never removed: the command was killed just before
            numbers = {one.number for one in there[old.id].record.generations}  # a commit since may have begun another
            self.moves |= inverse({ref: head for ref, head in heads.items() if int(ref.rpartition("/")[2]) in numbers})
            return
        for other in there.values():
            if other.name == old.name:
                raise Conflict(f"there is a container {old.name!r} already; nothing was changed", undoing=old.name)
            if old.ids is not None and other.record.ids is not None and abs(old.ids - other.record.ids) < idranges.SIZE:
                raise Conflict(f"container {other.name!r} has the ids that {old.name!r} had", undoing=old.name)
        states = {generation.number: self._state(old, generation.number, heads) for generation in old.generations}
        bases = tuple(
            msgspec.structs.replace(generation, base=states[generation.number] or generation.base)
            for generation in old.generations
        )
        for generation in bases:
            if not self.containers.store.history.has(generation.base):
                raise NotFound(
                    f"the last state of {old.name!r} is gone: gc has removed it", operation=self.operation.id
                )
        self.removed.append(msgspec.structs.replace(old, generations=bases))
        self.moves |= inverse(heads)

    def _state(self, record: Record, number: int, heads: Mapping[str, Change]) -> CommitId | None:
        """What was in a generation when its container was removed."""
        kept = self.operation.refs.get(f"{REMOVED}{record.id}/{number}")
        head = heads.get(record.ref(number))
        found = kept.new if kept else head.old if head else None
        return CommitId(found) if found else None

    def _take_away(self, container: Container, head: Change | None) -> None:
        self._must_be_stopped(container)
        if head is not None and self._head(container) != head.new:
            raise Conflict(
                f"container {container.name!r} was committed since; nothing was changed", undoing=container.name
            )
        self.made.append(container)

    def _put_back(self, container: Container, old: Record, new: Record, heads: Mapping[str, Change]) -> None:
        now = wanted = container.record
        is_as_left = True
        # What is as it was already, was perhaps never changed: the command was killed just before.
        if old.name != new.name and now.name != old.name:
            wanted = msgspec.structs.replace(wanted, name=old.name)
            is_as_left &= now.name == new.name
        if old.settings != new.settings and now.settings != old.settings:
            wanted = msgspec.structs.replace(wanted, settings=old.settings)
            is_as_left &= now.settings == new.settings
        if old.merging != new.merging and now.merging != old.merging:
            wanted = msgspec.structs.replace(wanted, merging=old.merging)
            is_as_left &= now.merging == new.merging
        history = self.containers.store.history
        before, after = old.ref(old.current), new.ref(new.current)
        head_before = heads[before].old if before in heads else history.target(before)
        head_after = heads[after].new if after in heads else history.target(after)
        if old.current == now.current:
            if old.current == new.current:
                self._move_head(container, head_before, head_after)
        elif old.current != new.current and old.current in {one.number for one in now.generations}:
            wanted = msgspec.structs.replace(wanted, current=old.current, generations=_relinked(old, new, now))
            is_as_left &= now.current == new.current or _is_in_its_place(now, new, old.current)
            is_as_left &= head_after in (None, self._head(container))
        else:
            self._move_head(container, head_before, head_after)
        for ref, (left, came) in heads.items():  # earlier states, which `forget` moves as well
            if left and came and ref not in (before, after, container.ref):
                self.moves[ref] = Change(came, left)
        if wanted != now:
            self._must_be_stopped(container)
            if not is_as_left:
                raise _is_other(container)
            self.changed.append((container, wanted))

    def _move_head(self, container: Container, old: str | None, new: str | None) -> None:
        """Its generation may be another since: a start begins a new one."""
        if old and new and old != new:
            self.moves[container.ref] = Change(new, old)

    def _head(self, container: Container) -> str:
        return self.containers.store.history.target(container.ref) or container.base

    def _must_be_stopped(self, container: Container) -> None:
        if is_running(container.paths.directory):
            raise _runs(container)


def _relinked(old: Record, new: Record, now: Record) -> tuple[Generation, ...]:
    """The generations there are, each with the one before that it had, where the operation has changed that."""
    before, after = ({one.number: one.previous for one in record.generations} for record in (old, new))
    return tuple(
        msgspec.structs.replace(one, previous=before[one.number])
        if one.number in before and after.get(one.number, one.previous) == one.previous
        else one
        for one in now.generations
    )


def _is_in_its_place(now: Record, new: Record, left: int) -> bool:
    """Whether the generation there is has been put in the place of the one that an operation went to, from another one
    that it left: by a commit since, which was taken back."""
    is_gone = all(one.number != new.current for one in now.generations)
    return now.generation.previous == left or (is_gone and now.generation.previous == new.generation.previous)


def _runs(container: Container) -> Conflict:
    return Conflict(f"container {container.name!r} is running; nothing was changed", container=container.name)


def _is_other(container: Container) -> Conflict:
    message = f"container {container.name!r} is not as the operation left it; nothing was changed"
    return Conflict(message, undoing=container.name)
