"""The containers of a store: made, named, found, listed and removed. What is in them is runtime.states' business."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runtime.container import SHORT, Container, find_among
from runtime.making import BACK, NEW, build, make_generation, to_stay
from runtime.naming import Names, checked_name, is_name, stem_of
from runtime.records import ContainerPaths, Generation, Merging, Record, fields_of, load, save
from runtime.settings import Settings
from runtime.storehooks import is_held
from runtime.system.deletion import delete_tree
from runtime.trash import Trash
from vcs.durable import sync_directory
from vcs.errors import AlreadyExists, Corrupt, NotFound, UnknownFormat
from vcs.existing import is_directory, is_there
from vcs.locks import flocked
from vcs.model import CommitId
from vcs.operationlines import ContainerChange
from vcs.store import Store, translated

if TYPE_CHECKING:
    from vcs.history import Author
    from vcs.takingback import Arrivals

__all__ = ["CONTAINERS", "REMOVED", "Container", "Containers", "find_among", "make_generation"]

REMOVED = "refs/removed/"
"""Where the last states of removed containers are kept, as <id>/<generation>."""
CONTAINERS = "refs/containers/"
"""Where each generation's newest commit is, as <id>/<generation>."""
_ID_DIGITS = 64


class Containers:
    """All containers of one store."""

    def __init__(self, store: Store, held: str | None = None) -> None:
        """`held`: the id of a container whose lock is held by who waits for us (see runtime.storehooks)."""
        self.store = store
        self._held = held
        self._directory = store.path / "containers"
        self._names = Names(self._directory)
        self.trash = Trash(self._directory)
        self.damaged: list[Corrupt | UnknownFormat] = []
        """Why containers could not be read, when all() last looked."""
        self._finish_moves()

    def create(
        self,
        image: str,
        commit: CommitId,
        settings: Settings,
        author: Author,
        name: str | None = None,
        merging: Merging | None = None,
    ) -> Container:
        """Make a container on a commit, with an empty upper. Durable when it returns, if it is to outlive its end.

        AlreadyExists or InvalidName for a bad name; without one, it is named after the image and a random number.
        """
        with translated("the container cannot be made"), self._locked():
            name = self._free_name(name, image)
            record = _record(name, image, commit, settings, self._own_ids(settings, self._records))
            record = msgspec.structs.replace(record, merging=merging)
            with self._unnoted([record]), self._making([record]) as made:
                reason = f"container {record.name}: created"
                durable = to_stay([record])
                self.store.history.move(record.ref(0), commit, None, reason, author, force=True, durable=durable)
        self.store.operations.flush()  # its command may run for long
        return made[0]

    @contextlib.contextmanager
    def coming_back(self, records: Sequence[Record]) -> Iterator[Arrivals]:
        """Make the directories of containers that were removed again, of the same ids, with empty uppers, durably.
        They are for the block to put into their places, with their refs (vcs.takingback). AlreadyExists if a name is
        taken."""
        from vcs.takingback import Arrivals

        if not records:
            yield Arrivals()
            return
        with translated("the container cannot be made"), self._locked():
            for record in records:
                self._free_name(record.name, "")
            build(self._directory, BACK, records)
            sync_directory(self._directory)
            for record in records:
                self._names.add(record.name, record.id)
            where = self._directory.name
            yield Arrivals(
                {record.id: ContainerChange(None, fields_of(record)) for record in records},
                {f"{where}/{BACK}{record.id}": f"{where}/{record.id}" for record in records},
            )

    def create_many(
        self,
        image: str,
        commit: CommitId,
        stem: str,
        count: int,
        settings: Callable[[int, str], Settings],
        author: Author,
    ) -> list[Container]:
        """Make many containers on a commit, called STEM-1, STEM-2 and so on, without those that are taken. All of them
        are durable when it returns; each costs a quarter of what create() costs.

        `settings` is asked for each one's, by its number among the new ones, from 1 on, and its name. InvalidName.
        """
        with translated("the containers cannot be made"), self._locked():
            others = self.all()
            taken = {container.name for container in others}
            free = (name for number in count_from(1) if (name := f"{stem}-{number}") not in taken)
            records: list[Record] = []
            for number, name in enumerate(islice(free, count), start=1):
                wanted = settings(number, checked_name(name))
                ids = self._own_ids(wanted, lambda: (*(other.record for other in others), *records))
                records.append(_record(name, image, commit, wanted, ids))
            with self._unnoted(records), self._making(records) as made:
                refs = {record.ref(0): commit for record in records}
                self.store.history.name_all(refs, f"containers {stem}: created", author)
        return made

    @contextlib.contextmanager
    def _making(self, records: Sequence[Record]) -> Iterator[list[Container]]:
        """Make the directories of new containers, durably, and let them be found when the block has made their refs:
        whatever fails before leaves nothing that counts. The caller holds the lock.
        """
        building = build(self._directory, NEW, records)
        made = [Container(record, ContainerPaths(self._directory / record.id)) for record in records]
        yield made
        for record in records:
            self._names.add(record.name, record.id)
        with self._noting({record.id: (None, record) for record in records}, "containers made"):
            for paths, container in zip(building, made, strict=True):
                paths.directory.rename(container.paths.directory)
        if to_stay(records):
            sync_directory(self._directory)

    def all(self) -> list[Container]:
        """Every container, oldest first. One whose record cannot be read is left out, and noted in `damaged`."""
        found = []
        self.damaged = []
        for entry in os.scandir(self._directory):
            if not entry.name.startswith("."):
                try:
                    found.append(self._load(entry.name))
                except FileNotFoundError:
                    pass  # just removed
                except (Corrupt, UnknownFormat) as error:
                    self.damaged.append(error)
        return sorted(found, key=lambda container: container.record.created)

    def find(self, name: str) -> Container:
        """The container with this name, else with this id, else with an id that begins so. NotFound otherwise."""
        if owner := self._owner(name):
            return owner
        is_id = len(name) == _ID_DIGITS and is_directory(self._directory / name)
        return self.get(name) if is_id else find_among(self.all(), name)

    def get(self, identity: str, name: str = "") -> Container:
        """The container with this id, all of it. NotFound, which calls it by its name if that is given."""
        try:
            return self._load(identity)
        except FileNotFoundError:
            name = name or identity[:SHORT]
            raise NotFound(f"container {name!r} was removed", container=name) from None

    def lookup(self, names: Iterable[str]) -> list[Container | NotFound]:
        """find() for each of several names; an error stands for what is not found."""
        everything = self.all()
        by_name = {container.name: container for container in everything}
        found: list[Container | NotFound] = []
        for name in names:
            try:
                found.append(by_name.get(name) or find_among(everything, name))
            except NotFound as error:
                found.append(error)
        return found

    def reload(self, container: Container) -> Container:
        """The container as it is now."""
        return self.get(container.id, container.name)

    @contextlib.contextmanager
    def changing(self, container: Container) -> Iterator[Container]:
        """Hold a container's lock; yields it as it is now. Whoever changes a record or an upper's place holds it."""
        if container.id == self._held:
            raise is_held(container.name)
        with contextlib.ExitStack() as stack:
            # Shared, and before the container's own: whoever rewrites the history below all of them waits for us.
            stack.enter_context(flocked(self._rewriting, fcntl.LOCK_SH))
            try:
                stack.enter_context(flocked(container.paths.lock, fcntl.LOCK_EX))
            except FileNotFoundError:
                raise NotFound(f"container {container.name!r} was removed", container=container.name) from None
            yield self.reload(container)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let no container be made, changed or removed meanwhile. To be taken before the lock on refs."""
        if self._held:
            raise is_held("a container")
        with translated("the containers cannot be changed"), self._locked(), flocked(self._rewriting, fcntl.LOCK_EX):
            yield

    @property
    def moves(self) -> Path:
        """Where runtime.branches.forgetting writes down what it is about to move."""
        return self._directory / ".moves.json"

    def replace(self, container: Container, record: Record) -> Container:
        """Save a changed record."""
        if record != container.record:
            change = {record.id: (container.record, record)}
            with self._unnoted([record]), self._noting(change, f"container {record.name} changed"):
                save(container.paths, record)
        return Container(record, container.paths)

    def rename(self, container: Container, name: str) -> Container:
        """Give a container another name."""
        with self._locked(), self.changing(container) as now:
            free = self._free_name(name, "")
            self._names.add(free, now.id)
            renamed = self.replace(now, msgspec.structs.replace(now.record, name=free))
            self._names.drop(now.name, now.id)
            return renamed

    def take_away(self, container: Container) -> None:
        """The first step of removing one of many: nobody finds it any more. The caller holds its lock, and knows that
        it does not run."""
        record = container.record
        with self._unnoted([record]), self._noting({record.id: (record, None)}, f"container {record.name} removed"):
            self.trash.take(container.paths.directory, container.id)

    def finish_removing(self, containers: Sequence[Container]) -> None:
        """The second step, for all that were taken away: make that durable, and delete their refs. Their files are in
        the trash. The caller holds no container's lock.

        Those that were made to be removed at their end (--rm) may be there again after a power cut: nobody waits for
        the disk. Others an undo may have made again meanwhile: they stay.
        """
        durable = to_stay([container.record for container in containers])
        with contextlib.ExitStack() as stack:
            if durable:
                sync_directory(self._directory)
                stack.enter_context(flocked(self._lock, fcntl.LOCK_EX))
            gone = [container for container in containers if not is_there(container.paths.directory)]
            stack.enter_context(self._unnoted([container.record for container in containers]))
            self.store.history.delete_all(
                [one.record.ref(generation.number) for one in gone for generation in one.record.generations],
                durable=durable,
            )
            for container in gone:
                self._names.drop(container.name, container.id)

    def forget_gone(self) -> None:
        """Delete the refs of containers that are not there any more, and their names: a removal that was killed before
        its end left them, and the refs would keep their commits for ever."""
        with self._locked():
            there = frozenset(os.listdir(self._directory))
            found = self.store.history.refs(CONTAINERS)
            gone = [CONTAINERS + name for name in found if name.partition("/")[0] not in there]
            if gone:
                with self.store.operations.silent():
                    self.store.history.delete_all(gone)
            self._names.keep(there)

    def discard(self, container: Container, number: int) -> None:
        """Forget a generation that the container's record no longer has. Its files go with the trash."""
        with contextlib.suppress(FileNotFoundError):
            self.trash.take(container.paths.generation(number), f"{container.id}-{number}")
        with contextlib.suppress(NotFound):
            self.store.history.delete(container.record.ref(number))

    def bases(self) -> set[CommitId]:
        """The commits that containers stand on, and that their merges need. No ref need lead there: after an undo, a
        head may be before its base."""
        records = self._records()
        found = {generation.base for record in records for generation in record.generations}
        merges = [record.merging for record in records if record.merging is not None]
        return found.union(*((one.start, one.base, one.theirs, *one.parents) for one in merges))

    @contextlib.contextmanager
    def _noting(self, changes: Mapping[str, tuple[Record | None, Record | None]], reason: str) -> Iterator[None]:
        """Have the operation log tell of what the block does to records."""
        facts = {name: (fields_of(old), fields_of(new)) for name, (old, new) in changes.items()}
        with self.store.history.locked(), self.store.operations.noting(None, facts, None, reason):
            yield

    @contextlib.contextmanager
    def _unnoted(self, records: Sequence[Record]) -> Iterator[None]:
        """Containers that are removed at their end (--rm) come and go without a word in the operation log: to take
        back their end would make again what was to be gone."""
        with contextlib.ExitStack() as stack:
            if not to_stay(records):
                stack.enter_context(self.store.operations.silent())
            yield

    @property
    def _lock(self) -> Path:
        return self.store.path / "locks" / "containers"

    @property
    def _rewriting(self) -> Path:
        return self.store.path / "locks" / "rewriting"

    def _load(self, identity: str) -> Container:
        paths = ContainerPaths(self._directory / identity)
        return Container(load(paths), paths)

    def _free_name(self, wanted: str | None, image: str) -> str:
        if wanted is not None:
            if self._owner(checked_name(wanted)):
                raise AlreadyExists(f"there is a container {wanted!r} already", name=wanted)
            return wanted
        stem = stem_of(image)
        return next(name for n in count_from(1) if not self._owner(name := f"{stem}-{n}"))

    def _owner(self, name: str) -> Container | None:
        """The container that has a name, if the index knows it. Whoever holds the lock can rely on that."""
        identity = self._names.owner(name) if is_name(name) else None
        if identity is None:
            return None
        with contextlib.suppress(FileNotFoundError, Corrupt, UnknownFormat, ValueError):
            found = self._load(identity)
            if found.name == name:
                return found
        # What a killed command left, or damage: then the records say it.
        return next((container for container in self.all() if container.name == name), None)

    def _records(self) -> list[Record]:
        return [container.record for container in self.all()]

    def _own_ids(self, settings: Settings, others: Callable[[], Iterable[Record]]) -> int | None:
        """Ids that no other container has, if it is to have its own. The caller holds the lock."""
        if settings.security.userns != "auto":
            return None
        from runtime.idranges import free_here

        return free_here([other.ids for other in others() if other.ids is not None], self.store.path.stat().st_ino)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with flocked(self._lock, fcntl.LOCK_EX):
            self.trash.empty()
            self._forget_unfinished()
            if not self._names.is_complete:
                self._names.make((container.name, container.id) for container in self.all())
            yield

    def _finish_moves(self) -> None:
        if is_there(self.moves):
            from runtime.moves import finish_moves

            finish_moves(self)

    def _forget_unfinished(self) -> None:
        """Remove what a killed create() left, also of refs. Whoever creates holds the lock, and it is ours. What is
        written down as coming back comes, and has its refs; what is not, is of a killed process too."""
        names = [entry.name for entry in os.scandir(self._directory) if entry.name.startswith((NEW, BACK))]
        if any(name.startswith(BACK) for name in names):
            from vcs.takingback import finish_moves

            finish_moves(self.store.history, self.store.operations)
            if is_there(self.store.operations.moves):
                return  # the disk is full: another time
        if new := [name.removeprefix(NEW) for name in names if name.startswith(NEW)]:
            with self.store.operations.silent():
                self.store.history.delete_all(f"{CONTAINERS}{identity}/0" for identity in new)
        for name in names:
            delete_tree(self._directory / name)


def _record(name: str, image: str, commit: CommitId, settings: Settings, ids: int | None) -> Record:
    """The record of a new container."""
    now = time.time()
    return Record(os.urandom(32).hex(), name, now, image, settings, (Generation(0, commit, now),), 0, ids)
