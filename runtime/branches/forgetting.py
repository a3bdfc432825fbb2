"""Commits of branches forgotten, and everything that stands on them moved along.

What is kept above a forgotten commit is written again on another parent (vcs.rewriting), so its id changes. Whatever
pointed at it follows: the branch, tags, containers (the refs that keep their heads, and the bases in their records),
and the states that `rm` left. A container needs no restart, for it stands on the root, which is the same.

A commit that a container stands on is never forgotten: its files are kept anyway, and they are better explained.

All of that moves together or not at all. First the commits are written, which nothing refers to yet; then every move is
written down in one file, `containers/.moves.json`; then they are made; then the file goes. Whoever finds the file later
makes the moves that are missing (runtime.moves; Containers does so when it is opened). Meanwhile nobody changes a
container or a ref: see Containers.frozen and History.locked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace

from runtime.building.cache import BUILDS, forget_leading_to
from runtime.containers import CONTAINERS, REMOVED, Containers
from runtime.moves import Move, Moves, Rebase, make, write_down
from runtime.states import must_not_merge
from vcs import reflogs
from vcs.errors import BadInput, NotFound
from vcs.gitobjects import GitObjects
from vcs.gitwords import is_of_notes
from vcs.history import BRANCHES, TAGS, Author, History
from vcs.model import CommitId
from vcs.notes import REF as NOTES
from vcs.notes import carried
from vcs.retention import Candidate, Rules, Verdict, judge
from vcs.rewriting import first_parents, leading_to, rewrite, with_target
from vcs.snapshot import CommitInfo
from vcs.store import Store, translated

_SHORT = 12


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a commit: kept for these reasons, or forgotten if there are none."""

    commit: CommitInfo
    reasons: tuple[str, ...]
    now: CommitId | None = None
    """Its id afterwards. None if it is forgotten, or if nothing was changed yet."""

    @property
    def kept(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was done, or would be."""

    branches: dict[str, list[Fate]]
    """For each branch its commits along first parents, newest first."""
    moves: tuple[Move, ...] = ()
    held: tuple[str, ...] = ()
    """Other refs (full names) that still keep forgotten commits."""

    @property
    def commits(self) -> set[CommitId]:
        """What is on none of these branches any more."""
        return {fate.commit.id for fates in self.branches.values() for fate in fates if not fate.kept}


def forget(
    containers: Containers, branches: Sequence[str], rules: Rules, author: Author, *, dry_run: bool = False
) -> Forgotten:
    """Forget the commits of some branches that no rule keeps. `author` goes into the reflogs.

    A commit on several of the branches stays on all of them if it is kept on one. BadInput if there is no rule;
    NotFound if there is no such branch. With `dry_run`, nothing changes.
    """
    if rules.is_empty:
        raise BadInput("no rule says what to keep")
    if dry_run:
        return _Plan(containers, branches, rules).forecast()
    with translated("the history cannot be rewritten"), containers.frozen(), containers.store.history.locked():
        make(containers)
        return _Plan(containers, branches, rules).carry_out(author)


def drop_memories(store: Store, done: Forgotten) -> int:
    """Remove from the reflogs of these branches, and of what else was moved, the entries for commits that no ref leads
    to any more: what was forgotten now and before. So with operations that did something to these. Returns how many
    entries went."""
    repository, history = store.path / "history.git", store.history
    with translated("the reflogs cannot be written"), history.locked():
        refs = {"HEAD", *(BRANCHES + branch for branch in done.branches), *(move.ref for move in done.moves)}
        kept = set(history.commit_ids())
        theirs = {one.id: one for one in store.operations.read() if not refs.isdisjoint(one.refs)}
        remembered = reflogs.young_ids(repository, 0, refs) | store.operations.kept.young_ids(0, theirs)
        gone = {name for name in remembered if _leads_out(history, name, kept)}
        out = {one.id for one in theirs.values() if any(_leads_out(history, oid, kept) for oid in one.ids)}
        store.operations.drop(out)
        for one in theirs.values():
            for ref in refs & one.refs.keys():
                store.operations.kept.drop(one.id, ref, gone)
        return reflogs.drop(repository, refs, gone)


def _leads_out(history: History, oid: str, kept: set[CommitId]) -> bool:
    """Whether an object is, or tags, a commit that is not among these."""
    with suppress(NotFound):  # gc has removed it
        return history.resolve(oid) not in kept
    return True


class _Plan:
    """What is kept and what is forgotten. Nothing may change while it is made and carried out."""

    def __init__(self, containers: Containers, branches: Sequence[str], rules: Rules) -> None:
        self._containers = containers
        self._history: History = containers.store.history
        self._all = containers.all()
        self._tips = {branch: containers.store.tip(branch) for branch in dict.fromkeys(branches)}
        self._standing = self._find_standing()
        chains = {branch: first_parents(self._history, tip) for branch, tip in self._tips.items()}
        verdicts = self._judge(chains, rules)
        self._fates = {
            branch: [Fate(containers.store.commit(commit), verdicts[branch][commit]) for commit in chain]
            for branch, chain in chains.items()
        }
        self._forgotten = Forgotten(self._fates).commits

    def forecast(self) -> Forgotten:
        return Forgotten(self._fates, held=self._held())

    def carry_out(self, author: Author) -> Forgotten:
        if not self._forgotten:
            now = {
                branch: [replace(fate, now=fate.commit.id) for fate in fates] for branch, fates in self._fates.items()
            }
            return Forgotten(now, held=())
        for container in self._all:
            must_not_merge(container)  # its record names commits that would be written again
        kept = {fate.commit.id for fates in self._fates.values() for fate in fates if fate.kept}
        standing = list(self._standing)
        tips, kept_or_standing = list(self._tips.values()), kept | {*standing}
        with closing(GitObjects(self._containers.store.path / "history.git")) as objects:
            stands = rewrite(self._history, objects, tips, kept_or_standing, self._forgotten, standing)
            moved = self._moves(stands, objects)
            if noted := carried(self._history, objects, stands, author):
                moved.append(Move(NOTES, CommitId(str(self._history.target(NOTES))), noted))
        total = sum(len(fates) for fates in self._fates.values())
        moves = Moves(moved, self._rebases(stands), f"forget: {len(self._forgotten)} of {total} commits", author)
        write_down(self._containers, moves)
        make(self._containers)
        forget_leading_to(self._containers.store, self._forgotten)
        fates = {
            branch: [replace(fate, now=stands[fate.commit.id] if fate.kept else None) for fate in fates]
            for branch, fates in self._fates.items()
        }
        return Forgotten(fates, tuple(moves.refs), self._held())

    # -- what is kept

    def _find_standing(self) -> dict[CommitId, list[str]]:
        """The commits that containers, and states of removed ones, stand on; and who that is."""
        found: defaultdict[CommitId, list[str]] = defaultdict(list)
        names = {container.id: f"container {container.name}" for container in self._all}
        for prefix, kind in ((CONTAINERS, "container"), (REMOVED, "removed container")):
            for ref, commit in self._history.refs(prefix).items():
                identity = ref.partition("/")[0]
                known = names.get(identity) if prefix == CONTAINERS else None
                found[commit].append(known or f"{kind} {identity[:_SHORT]}")
        for container in self._all:
            for generation in container.record.generations:
                found[generation.base].append(names[container.id])
        return found

    def _judge(self, chains: Mapping[str, list[CommitId]], rules: Rules) -> dict[str, dict[CommitId, tuple[str, ...]]]:
        """The reasons to keep each commit of each branch."""
        tags: defaultdict[CommitId, list[str]] = defaultdict(list)
        for tag, commit in self._history.refs(TAGS).items():
            tags[commit].append(tag)
        found: dict[str, dict[CommitId, tuple[str, ...]]] = {}
        for branch, chain in chains.items():
            candidates = [self._candidate(commit, tags[commit]) for commit in chain]
            found[branch] = {verdict.commit: self._with_standing(verdict) for verdict in judge(candidates, rules)}
        keepers: defaultdict[CommitId, list[str]] = defaultdict(list)
        for branch, reasons in found.items():
            for commit, why in reasons.items():
                if why:
                    keepers[commit].append(f"branch {branch}")
        return {
            branch: {commit: why or tuple(keepers[commit]) for commit, why in reasons.items()}
            for branch, reasons in found.items()
        }

    def _candidate(self, commit: CommitId, tags: Sequence[str]) -> Candidate:
        info = self._containers.store.commit(commit)
        return Candidate(commit, info.time, info.offset, tuple(tags))

    def _with_standing(self, verdict: Verdict) -> tuple[str, ...]:
        return verdict.reasons or tuple(dict.fromkeys(self._standing.get(verdict.commit, ())))

    def _held(self) -> tuple[str, ...]:
        """Other branches, and tags, that lead to forgotten commits."""
        kept = {fate.commit.id for fates in self._fates.values() for fate in fates if fate.kept}
        others = {}
        for name, commit in self._history.refs("refs/").items():
            ref = f"refs/{name}"
            follows = ref.startswith((CONTAINERS, REMOVED, BUILDS)) or ref.removeprefix(BRANCHES) in self._tips
            if not follows and not is_of_notes(ref) and not (ref.startswith(TAGS) and commit in kept):
                others[ref] = commit
        leading = leading_to(self._history, set(others.values()), self._forgotten)
        return tuple(ref for ref, commit in others.items() if commit in leading)

    # -- what moves

    def _moves(self, stands: Mapping[CommitId, CommitId | None], objects: GitObjects) -> list[Move]:
        """Branches first: then all that was written is kept by something, whatever else is still to be moved."""
        followers = {BRANCHES + branch: tip for branch, tip in self._tips.items()}
        for prefix in (CONTAINERS, REMOVED):
            followers |= {prefix + ref: commit for ref, commit in self._history.refs(prefix).items()}
        moves = [Move(ref, old, new) for ref, old in followers.items() if (new := stands.get(old)) and new != old]
        for tag, commit in self._history.refs(TAGS).items():
            now = stands.get(commit)
            if now and now != commit and commit not in self._forgotten:
                moves += self._move_tag(TAGS + tag, commit, now, objects)
        return moves

    def _move_tag(self, ref: str, commit: CommitId, now: CommitId, objects: GitObjects) -> list[Move]:
        old = self._history.target(ref)
        if old is None or old == commit:
            return [Move(ref, commit, now)]
        kind, data = objects.read(old)
        if not data.startswith(b"object " + commit.encode()):
            return []  # a tag of a tag: it stays where it is
        return [Move(ref, old, CommitId(objects.write(kind, with_target(data, now))))]

    def _rebases(self, stands: Mapping[CommitId, CommitId | None]) -> list[Rebase]:
        return [
            Rebase(container.id, generation.number, generation.base, new)
            for container in self._all
            for generation in container.record.generations
            if (new := stands.get(generation.base)) and new != generation.base
        ]
