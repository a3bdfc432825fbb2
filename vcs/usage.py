"""What takes how much: the names of a store, commits, directories, and the store as a whole.

Sizes are of objects: an object takes its share, by length, of the compressed block that it lies in. So the objects of a
store take together exactly what the blocks of its layers do, whatever way they are grouped.

A name (a branch, a tag, a container) is measured with all commits that it keeps: those that it leads to, and those that
its reflog remembers, which goes with it. Unique to it is what nothing else keeps: what gc frees once the name is gone.
A commit is measured as one root; unique to it is what no other commit has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcs import reflogs
from vcs.errors import NotFound
from vcs.gitwords import is_of_notes
from vcs.leases import read_leases
from vcs.model import CommitId, Entry, RootId, Tree
from vcs.notes import are_notes
from vcs.sharing import Bytes, Kind, Sharing, Start, start_of
from vcs.snapshot import CommitInfo, Snapshot, split_path
from vcs.store import Store

HEAD = "HEAD"


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes in layers. `unique` is what nothing else needs."""

    stored: int
    unique: int

    @property
    def shared(self) -> int:
        return self.stored - self.unique


@dataclass(frozen=True, slots=True)
class Claim:
    """Something to be measured: its number among what Usage knows, and the numbers of what it may share with."""

    own: int
    others: tuple[int, ...]


class Usage:
    """What keeps what in a store, and how much each of it takes.

    `group` says which refs (full names) are one name: it returns the name. Reflog entries count that are not older
    than `since`, in seconds since 1970.
    """

    def __init__(self, store: Store, since: float = 0, group: Callable[[str], str] = str) -> None:
        self._store = store
        starts = _starts(store, since, group)
        leased = read_leases(store.leases)
        leased_commits = _existing(store, leased.commits)
        tips = {commit for commits in starts.values() for commit in commits} | leased_commits
        self.commits: dict[CommitId, CommitInfo] = {info.id: info for info in store.history.log(list(tips))}
        """Every commit that is kept."""
        self._owners: list[list[Start]] = []
        """In the order of the history, in which layers have them: in another one, block after block would be read again
        for each."""
        self._names = {name: self._own(self._roots(commits)) for name, commits in starts.items()}
        leases = [*self._roots(leased_commits), *(root for root in leased.roots if root in store)]
        self._keepers = (*self._names.values(), self._own(leases))

    @property
    def names(self) -> list[str]:
        """What `group` returned, sorted."""
        return sorted(self._names)

    def of_name(self, name: str) -> Claim:
        """A name with all commits that it keeps. NotFound, also if it was made since this was looked at."""
        if name not in self._names:
            raise NotFound(f"nothing was known by the name {name!r} yet", name=name)
        own = self._names[name]
        return Claim(own, tuple(keeper for keeper in self._keepers if keeper != own))

    def of_commit(self, commit: CommitId) -> Claim:
        """One commit's root."""
        return Claim(self._own([self._store.commit(commit).root]), (self._own(self._other_roots(commit)),))

    def of_path(self, commit: CommitId, path: bytes) -> Claim:
        """What is at and below a path of a commit; it shares with the rest of that root too. NotFound."""
        snapshot = self._store.snapshot_of(commit)
        own = start_of(snapshot.lookup(path))
        others = [Start(Kind.ROOT, root) for root in self._other_roots(commit)]
        others += [start for entry in _beside(snapshot, path) if (start := start_of(entry))]
        self._owners += [[own] if own else [], others]
        return Claim(len(self._owners) - 2, (len(self._owners) - 1,))

    def measure(
        self, claims: Sequence[Claim], progress: Callable[[int], None] = lambda _: None
    ) -> tuple[list[Sizes], Sizes]:
        """Each claim's sizes, and all together, where what several claims hold counts once: `stored` is what at least
        one of them needs, `unique` what is unique to one of them. `progress` is what Sharing says."""
        bits = [(1 << claim.own, _bits(claim.others)) for claim in claims]
        stored, unique = [0] * len(claims), [0] * len(claims)
        all_stored = all_unique = 0
        for owners, size in self.sharing(progress).needed.items():
            holders = [number for number, (own, _) in enumerate(bits) if owners & own]
            sole = [number for number in holders if not owners & bits[number][1]]
            for number in holders:
                stored[number] += size.stored
            for number in sole:
                unique[number] += size.stored
            all_stored += size.stored if holders else 0
            all_unique += size.stored if sole else 0
        return [Sizes(*sizes) for sizes in zip(stored, unique, strict=True)], Sizes(all_stored, all_unique)

    def sharing(self, progress: Callable[[int], None] = lambda _: None) -> Sharing:
        """Everything that is kept, as objects."""
        return Sharing(self._store, self._owners, progress)

    def _own(self, roots: Iterable[RootId]) -> int:
        self._owners.append([Start(Kind.ROOT, root) for root in dict.fromkeys(roots)])
        return len(self._owners) - 1

    def _other_roots(self, commit: CommitId) -> Iterator[RootId]:
        return (info.root for info in self.commits.values() if info.id != commit)

    def _roots(self, tips: Iterable[CommitId]) -> list[RootId]:
        """The roots of some commits and all their ancestors, each once."""
        seen: dict[CommitId, None] = {}
        todo = list(tips)
        while todo:
            commit = todo.pop()
            if commit not in seen:
                seen[commit] = None
                todo += self.commits[commit].parents
        return list(dict.fromkeys(self.commits[commit].root for commit in seen))


@dataclass(frozen=True, slots=True)
class Statistics:
    """A store in numbers. Sizes are bytes."""

    layers: int
    layer_bytes: int
    """Whole files, their tables included."""
    smallest: int
    largest: int
    kinds: dict[Kind, Bytes]
    """The objects that are needed."""
    needed: Bytes
    total: Bytes
    """All objects, once each."""
    blocks: int
    """Compressed blocks in the layers: of them, what is not `needed.stored` is garbage."""
    commits: int
    """That refs lead to."""
    remembered: int
    """Further commits, that only reflogs (or running commands) keep."""
    logical: int
    """The files of all these commits, each commit by itself."""
    branches: int
    tags: int
    index_bytes: int
    git_bytes: int
    cache_bytes: int
    """All three as the disk allocates them."""

    @property
    def garbage(self) -> int:
        return self.blocks - self.needed.stored

    @property
    def compression(self) -> float:
        """How many bytes of objects a byte in a block holds."""
        return self.total.raw / self.total.stored if self.total.stored else 1.0

    @property
    def deduplication(self) -> float:
        """How many bytes of files a byte in a chunk stands for."""
        chunks = self.kinds[Kind.CHUNK].raw
        return self.logical / chunks if chunks else 1.0


def statistics(store: Store, since: float = 0, progress: Callable[[int], None] = lambda _: None) -> Statistics:
    """Measure a store. Reflog entries count that are not older than `since`. `progress` is what Sharing says."""
    usage = Usage(store, since)
    sharing = usage.sharing(progress)
    layers = store.index.layers()
    commits = len(store.commit_ids())
    return Statistics(
        layers=len(layers),
        layer_bytes=sum(layers.values()),
        smallest=min(layers.values(), default=0),
        largest=max(layers.values(), default=0),
        kinds=sharing.kinds,
        needed=sum(sharing.needed.values(), Bytes()),
        total=sharing.total,
        blocks=sharing.blocks,
        commits=commits,
        remembered=len(usage.commits) - commits,
        logical=sum(content_of(store.snapshot(info.root).root).size for info in usage.commits.values()),
        branches=len(store.branches()),
        tags=len(store.tags()),
        index_bytes=sum(allocated(path) for path in store.path.glob("index.db*")),
        git_bytes=allocated(store.path / "history.git"),
        cache_bytes=allocated(store.path / "caches"),
    )


def content_of(root: Entry) -> Tree:
    """The sums of a root's (or any directory's) files."""
    assert isinstance(root.content, Tree)
    return root.content


def allocated(path: Path) -> int:
    """Bytes of the disk that a file takes, or a directory with all that is in it; a hard-linked file counts once."""
    seen = set()
    total = 0
    todo = [path]
    while todo:
        here = todo.pop()
        try:
            stat = here.lstat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            total += stat.st_blocks * 512
            if here.is_dir() and not here.is_symlink():
                todo += here.iterdir()
        except FileNotFoundError:
            continue  # it was deleted just now
    return total


# -- details


def _bits(numbers: Iterable[int]) -> int:
    found = 0
    for number in numbers:
        found |= 1 << number
    return found


def _starts(store: Store, since: float, group: Callable[[str], str]) -> dict[str, set[CommitId]]:
    """The commits that each name keeps, ancestors not listed. HEAD's reflog is that of the branch it is at."""
    found: dict[str, set[CommitId]] = {}
    refs = {ref: commit for ref, commit in store.history.refs("refs/").items() if not is_of_notes(f"refs/{ref}")}
    for ref, commit in refs.items():
        found.setdefault(group(f"refs/{ref}"), set()).add(commit)
    head = _head_branch(store)
    names = {HEAD, *(f"refs/{ref}" for ref in refs)}
    for ref, ids in reflogs.young_ids_by_ref(store.repository, since, names).items():
        name = group(head if ref == HEAD else ref)
        commits = _existing(store, ids)
        if commits:
            found.setdefault(name, set()).update(commits)
    return found


def _existing(store: Store, ids: Iterable[str]) -> set[CommitId]:
    """The commits that these ids name, tags peeled; those that gc has removed, or that hold notes, left out."""
    found = set()
    for name in ids:
        try:
            commit = store.history.resolve(name)
        except NotFound:
            continue
        if not are_notes(store.history.raw, commit):
            found.add(commit)
    return found


def _head_branch(store: Store) -> str:
    text = (store.repository / HEAD).read_text().strip()
    return text.removeprefix("ref: ")


def _beside(snapshot: Snapshot, path: bytes) -> Iterator[Entry]:
    """Everything of a root that is not at or below a path: the other entries of each directory on the way to it."""
    here = snapshot.root
    for name in split_path(path):
        for entry in snapshot.directory(here):
            if entry.name == name:
                found = entry
            else:
                yield entry
        here = found
