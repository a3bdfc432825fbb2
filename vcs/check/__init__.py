"""Checking a store: what is there has its digest, what is needed is there, and all of it agrees.

    report     problems, and what of them can be restored
    index      the index against the layers                     layers   their tables, or every byte of them
    history    git's files: objects, refs, reflogs, settings
    graph      commits, roots, trees, chunk lists               shape    where large ones are cut
    indexed    what the index has, in memory                    naming   which commits and paths need what is damaged
    caches     what imports left

A quick check reads everything but the chunks, which it only looks for in the index: what a bad disk did to the content
of files is not noticed. With `read_data`, every byte of every layer is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType

from vcs.bisection import notebook
from vcs.check.caches import check_caches
from vcs.check.graph import Graph
from vcs.check.history import Refs, check_history
from vcs.check.index import check_index, index_problem, not_listed
from vcs.check.indexed import Indexed
from vcs.check.layers import Layers
from vcs.check.naming import name_faults
from vcs.check.report import Problem, Progress, Report
from vcs.errors import Damaged, NotAStore, NotFound, StoreError, TreeringError
from vcs.gitobjects import GitObjects
from vcs.gitobjects import translated as git_translated
from vcs.gitwords import is_of_notes
from vcs.leases import Lease
from vcs.model import CommitId, RootId
from vcs.notes import are_notes, needed
from vcs.operationlines import damaged_lines
from vcs.packing import has_object
from vcs.reach import Reach
from vcs.shortage import raise_shortage
from vcs.snapshot import CommitInfo
from vcs.store import FORMAT_LINE, Store, check_format, translated

__all__ = ["Problem", "Progress", "Report", "check", "check_index", "examine"]


def examine(path: Path, progress: Progress | None = None, *, read_data: bool = True) -> Report:
    """Check the store at `path`, which must not be open in this process. NotAStore, UnknownFormat, Denied, NoSpace.

    An index that is damaged is told of, and made anew, so that what else is wrong can be told apart from it.
    """
    report = Report()
    with translated(f"the store {path} cannot be checked"):
        _check_format(path, report)
        missing: set[bytes] = set()
        report.problems += check_index(path / "index.db", path / "layers", missing=missing)
        with Store(path) as store:
            report.problems += _needed(store, missing)
            return _Check(store, report, read_data, progress).run()


def check(
    store: Store,
    progress: Progress | None = None,
    *,
    read_data: bool = True,
    damaged: Mapping[bytes, str] = MappingProxyType({}),
) -> Report:
    """Check a store that is open; opening it has mended what of its index does not fit the files that are there.

    `damaged` has objects that are known to be so, by digest, and what is wrong with them.
    """
    missing: set[bytes] = set()
    report = Report(check_index(store.path / "index.db", store.path / "layers", is_open=True, missing=missing))
    report.problems += _needed(store, missing)
    return _Check(store, report, read_data, progress, damaged).run()


def _needed(store: Store, missing: set[bytes]) -> list[Problem]:
    """That the index lacks objects, if some of them are needed."""
    if not missing:
        return []
    reach = Reach(store)
    with suppress(TreeringError):  # what cannot be walked may be missing from the index too
        for commit in store.history.commit_ids():
            reach.add_root(store.commit(commit).root)
        if not any(digest in reach for digest in missing):
            return []
    return [index_problem(not_listed(len(missing)))]


def _check_format(path: Path, report: Report) -> None:
    """UnknownFormat, and NotAStore where nothing else looks like a store, as for whoever opens it."""
    try:
        check_format(path)
    except NotAStore:
        if not all((path / name).exists() for name in ("format", "layers", "history.git")):
            raise
    if (path / "format").read_bytes() != FORMAT_LINE:
        report.add("format", "the format file is damaged: it does not say what this is")


@contextmanager
def _unless_refused() -> Iterator[None]:
    """Do without what is refused, or damaged; but not where there is too little of something to ask for it."""
    try:
        yield
    except (TreeringError, OSError) as error:
        raise_shortage(error)


class _Check:
    def __init__(
        self,
        store: Store,
        report: Report,
        read_data: bool,
        progress: Progress | None,
        damaged: Mapping[bytes, str] = MappingProxyType({}),
    ) -> None:
        self._store = store
        self._report = report
        self._read_data = read_data
        self._progress = progress or (lambda *_: None)
        self._damaged = dict(damaged)
        self._layer_of: dict[bytes, str] = {}
        self._notes: set[str] = set()
        """The objects of git's that hold notes and were looked at."""

    def run(self) -> Report:
        with ExitStack() as stack:
            self._check(stack)
        return self._report

    def _check(self, stack: ExitStack) -> None:
        store, report = self._store, self._report
        if any(problem.kind == "index" for problem in report.problems):
            store.index.rebuild()
        # The refs before the index: what others write meanwhile is in neither, or in the index only.
        refs = self._check_history(stack)
        store.index.refresh()
        indexed = Indexed(store.index.lengths())
        self._check_layers()
        graph = Graph(store, indexed, self._damaged, report, self._progress)
        try:
            with closing(GitObjects(store.path / "history.git")) as self._git:
                roots = self._check_commits(self._tips(refs), graph)
        except TreeringError as error:  # no commit can be read
            report.add("history", str(error))
            return
        if graph.faults:
            name_faults(store, roots, graph.faults, report, self._layer_of)
        if self._read_data:
            check_caches(store.path / "caches", store.__contains__, report)
        report.unreachable = len(indexed) - indexed.seen
        self._tell_garbage()

    def _check_history(self, stack: ExitStack) -> Refs:
        """Check git's files while nobody writes them, and keep from then on what refs and reflogs name: gc may run
        beside us. Where no lock and no lease can be had (a medium that is read-only, or full), nobody writes either."""
        lease: Lease | None = None
        with _unless_refused():
            lease = stack.enter_context(self._store.writing())
        with ExitStack() as lock:
            with _unless_refused():
                lock.enter_context(self._store.history.locked())
            refs = check_history(self._store.path / "history.git", self._report)
            if lease is not None:
                with _unless_refused():
                    for target in {*refs.targets.values(), *refs.others}:
                        lease.commit(CommitId(target))
            self._check_operations(refs)
            self._check_bisection()
        return refs

    def _check_operations(self, refs: Refs) -> None:
        """The operation log, and the reflogs kept for it: each line as it was written. What they name is checked if it
        is there: gc may have removed what an old operation names."""
        operations = self._store.operations
        try:
            problems = [*damaged_lines(operations.path), *operations.kept.damaged_lines()]
            for problem in problems:
                self._report.add("operation", problem)
            if not problems:
                named = operations.young_ids(0)
                refs.others |= {oid for oid in named if self._is_there(oid)}
        except TreeringError as error:
            self._report.add("operation", str(error))
        except OSError as error:  # which says nothing of the lines
            self._report.add_unread("history", operations.path.name, error)

    def _check_bisection(self) -> None:
        """The verdicts as they were written, on commits that are there."""
        try:
            found = notebook.load(self._store.path)
        except TreeringError as error:
            self._report.add("bisect", str(error))
            return
        except OSError as error:  # which says nothing of the verdicts
            self._report.add_unread("history", notebook.FILE, error)
            return
        for commit in sorted({mark.commit for mark in found.marks} if found else ()):
            if not self._is_there(commit) and self._is_lost(commit):
                message = f"the bisection has a verdict on {commit}, which is not there"
                self._report.add("bisect", message, object=commit)

    def _is_there(self, oid: str) -> bool:
        """Or is damaged, or could not be looked for."""
        with _unless_refused():
            return self._store.history.has(oid)
        return True

    def _is_lost(self, oid: str) -> bool:
        """Whether the history's files, too, say that an object is not there: git's library says so of what is in packs
        that it could not look at."""
        repository = self._store.path / "history.git"
        with _unless_refused(), closing(GitObjects(repository)) as objects, git_translated():
            return not has_object(objects, repository / "objects", oid)
        return False

    def _check_layers(self) -> None:
        """Learn which objects cannot be read where the index says that they are."""
        index = self._store.index
        for name, fault in Layers(self._store.path / "layers", self._read_data, self._report, self._progress).faults():
            objects = fault.objects
            if not fault.has_tables:
                message = f"layer {name.hex()} cannot be read"
                objects = {digest: f"object {digest.hex()}: {message}" for digest, _ in index.objects_of(name)}
            for digest, message in objects.items():
                place = index.find(digest)
                with suppress(FileNotFoundError):  # gc has removed the layer just now
                    if place is not None and index.layer_name(place.layer) == name:
                        self._damaged[digest] = message
                        self._layer_of[digest] = name.hex()

    # -- commits

    def _tips(self, refs: Refs) -> list[CommitId]:
        """The commits that refs and reflogs name, peeled. Corrupt if the history as a whole cannot be opened."""
        history = self._store.history
        found: dict[CommitId, None] = {}
        for name, target in refs.targets.items():
            if is_of_notes(name):
                self._check_notes(name, target)
                continue
            try:
                found[history.resolve(target)] = None
            except (NotFound, Damaged) as error:
                self._report.add("ref", f"{name} names {target}, {self._why(target, error)}", object=target)
                self._report.refs.add(name)
                self._report.unknown.add(target)
            except (TreeringError, OSError) as error:
                raise_shortage(error)
                self._report.add("ref", f"{name} names {target}, {self._why(target, error)}", object=target)
        for target in sorted(refs.others - set(refs.targets.values())):
            try:
                commit = history.resolve(target)
                if self._holds_notes(commit):
                    self._check_notes("a reflog", commit)
                else:
                    found[commit] = None
            except (TreeringError, OSError) as error:
                raise_shortage(error)
                self._report.add(
                    "ref", f"a reflog (or packed-refs) names {target}, {self._why(target, error)}", object=target
                )
        return list(found)

    def _why(self, oid: str, error: Exception) -> str:
        """Why what a ref names was not to be had."""
        if isinstance(error, NotFound):
            return "which is not there" if self._is_lost(oid) else "which leads to no commit that can be read"
        return f"which cannot be read: {error}"

    def _holds_notes(self, commit: CommitId) -> bool:
        with suppress(TreeringError):
            return are_notes(self._store.history.raw, commit)
        return False

    def _check_notes(self, name: str, tip: str) -> None:
        """That all objects of git's that hold notes are there, and can be read."""
        todo = [tip]
        while todo:
            oid = todo.pop()
            if oid in self._notes:
                continue
            self._notes.add(oid)
            try:
                todo += needed(oid, *self._git.read(oid))
            except (StoreError, OSError) as error:  # which says nothing of the object
                self._report.add_unread("history", f"notes that {name} names", error, object=oid)
            except TreeringError as error:
                self._report.git_lost.add(oid)
                self._report.add("history", f"notes that {name} names cannot be read: {error}", object=oid)

    def _check_commits(self, tips: list[CommitId], graph: Graph) -> list[tuple[CommitId, RootId]]:
        """Check every commit that can be reached; returns those that could be read with their roots, newest first."""
        order: TopologicalSorter[CommitId] = TopologicalSorter()
        roots: dict[CommitId, RootId] = {}
        todo, seen = list(tips), set(tips)
        while todo:
            commit = todo.pop()
            order.add(commit)
            info = self._read_commit(commit)
            if info is None:
                self._report.affected += 1
                continue
            roots[commit] = info.root
            graph.check_root(info.root)
            for parent in info.parents:
                order.add(parent, commit)
            fresh = [parent for parent in info.parents if parent not in seen]
            todo += fresh
            seen.update(fresh)
        self._report.commits = len(seen)
        for oid in sorted(self._report.git_lost - {problem.object for problem in self._report.problems}):
            self._report.add("history", f"git object {oid} is damaged", object=oid)
        return [(commit, roots[commit]) for commit in order.static_order() if commit in roots]

    def _read_commit(self, commit: CommitId) -> CommitInfo | None:
        try:
            return self._looked_at(commit)
        except (StoreError, OSError) as error:  # which says nothing of the commit
            self._report.add_unread("history", f"commit {commit}", error, commit=commit)
            return None

    def _looked_at(self, commit: CommitId) -> CommitInfo | None:
        history, lost = self._store.history, self._report.git_lost
        info, message = None, ""
        try:
            info = history.info(commit)
            history.config(commit)
        except StoreError:
            raise
        except TreeringError as error:
            message = str(error)
        parts = self._git.parts(commit)
        damaged = [oid for oid in parts if oid in lost]
        if message and not damaged:
            damaged = parts[-1:]  # the last that is named is the one that cannot be read
            lost.update(damaged)
        for oid in damaged:
            self._report.add("history", message or f"git object {oid} is damaged", commit=commit, object=oid)
        return info

    def _tell_garbage(self) -> None:
        garbage = Counter(self._layer_of[digest] for digest in self._layer_of.keys() - self._report.lost.keys())
        for layer, count in garbage.items():
            what = "an object that nothing needs is" if count == 1 else f"{count:,} objects that nothing needs are"
            self._report.add("garbage", f"{what} damaged in layer {layer}", layer=layer)
