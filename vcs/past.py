"""A store as it was after an operation, to be looked at.

The history is a git repository of its own, in a directory of its own for as long as it is looked at: the objects are
the store's, by a link; `packed-refs` has the refs as the operation left them. So whatever reads a history reads this
one in the same way, git's revision syntax included. In the store itself nothing is written.

Refs and records are found from where they are now, by going back through the operations since. What no operation tells
of is as it is now. Of a ref that was moved in between by others, the log says where it was.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from vcs.errors import NotFound, ReadOnly
from vcs.gitobjects import GitObjects
from vcs.gitwords import BRANCHES, TAGS, kind, short
from vcs.history import History
from vcs.model import CommitId
from vcs.names import RefFiles
from vcs.operationlines import Operation
from vcs.operations import Operations
from vcs.reflogs import RefChange, lines_of, log_path, rewound
from vcs.store import Store, check_format, translated
from vcs.takingback import later, restoring

_PREFIX = "treering-past-"
_HEADER = b"# pack-refs with: sorted \n"


@contextlib.contextmanager
def as_of(path: Path, operation: str) -> Iterator[PastStore]:
    """Open the store at `path` as it was after an operation, named as Operations.find() takes it. NotFound."""
    with translated(f"the store {path} cannot be opened"):
        check_format(path)
    with TemporaryDirectory(prefix=_PREFIX) as directory, PastStore(path, Path(directory), operation) as store:
        yield store


class PastStore(Store):
    """Whatever would change it raises ReadOnly."""

    def __init__(self, path: Path, directory: Path, operation: str) -> None:
        super().__init__(path)
        self._directory = directory
        self._now = RefFiles(path / "history.git").ids()  # before the log: what is changed was noted in it before
        self.operation = self.operations.go_back(operation)
        """The one after which it is looked at."""

    @cached_property
    def operations(self) -> PastOperations:
        """Those until then."""
        return PastOperations(self.path / "operations.log")

    @cached_property
    def history(self) -> PastHistory:
        """The commits; branches and tags as they were."""
        repository, past = self.path / "history.git", self._directory / "history.git"
        refs = {os.fsdecode(ref): oid for ref, oid in self._now.items()}
        moves = restoring(self.operations.everything(), self.operation.id, ("refs/",))
        with contextlib.closing(GitObjects(repository)) as objects:
            for ref, (_, then) in moves.items():
                if then is not None and _is_there(objects, then):
                    refs[ref] = then
                elif then is not None and ref.startswith((BRANCHES, TAGS)):
                    message = f"{kind(ref)} {short(ref)!r} was at {then[:12]}, which gc has removed since"
                    raise NotFound(message, revision=then)
                else:
                    refs.pop(ref, None)
        _make_repository(repository, past, refs)
        return PastHistory(past, self.path / "locks" / "refs", self.operations, repository)

    @property
    def later(self) -> list[Operation]:
        """The operations since, oldest first."""
        return later(self.operations.everything(), self.operation.id)

    @property
    def repository(self) -> Path:
        self.history.write_reflogs()
        return self.history.path

    def writing(self) -> NoReturn:
        raise _refusal(self.operation)


class PastOperations(Operations):
    """A log that ends with one of its operations."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._last: Operation | None = None

    def go_back(self, name: str) -> Operation:
        """Have the log end with an operation. NotFound."""
        self._last = self.find(name)
        return self._last

    def everything(self) -> list[Operation]:
        """What came later too."""
        return super().read()

    def read(self) -> list[Operation]:
        found = super().read()
        if self._last is None:
            return found
        since = {one.id for one in later(found, self._last.id)}
        return [one for one in found if one.id not in since]

    @property
    def last(self) -> Operation:
        assert self._last is not None
        return self._last


class PastHistory(History):
    """The history in `path`, whose reflogs are written when they are asked for."""

    def __init__(self, path: Path, lock: Path, operations: PastOperations, repository: Path) -> None:
        super().__init__(path, lock, operations)
        self.path = path
        self._repository = repository
        self._log = operations
        self._written: set[str] = set()

    def locked(self) -> NoReturn:
        """Whoever wants the lock wants to change something."""
        raise _refusal(self._log.last)

    def write_reflogs(self) -> None:
        """Write all reflogs."""
        self._write_reflog("HEAD", self._head)
        for name in self.refs("refs/"):
            self._write_reflog(f"refs/{name}", f"refs/{name}")

    def resolve(self, revision: str) -> CommitId:
        if "@{" in revision:
            self.write_reflogs()
        return super().resolve(revision)

    def reflog(self, ref: str) -> list[RefChange]:
        self._write_reflog(ref, ref)
        return super().reflog(ref)

    @property
    def _head(self) -> str:
        return (self.path / "HEAD").read_text(errors="surrogateescape").removeprefix("ref: ").rstrip("\n")

    def _write_reflog(self, name: str, ref: str) -> None:
        """Write the reflog of a ref; for HEAD, which goes with a branch, and stays when that is deleted, what that
        was."""
        if name in self._written:
            return
        self._written.add(name)
        lines = lines_of(log_path(self._repository, name))
        for one in reversed(later(self._log.everything(), self._log.last.id)):
            if ref in one.refs:
                old, new = one.refs[ref]
                if name == ref and new is None:
                    lines = self._log.kept.lines(one.id, ref)
                lines = rewound(lines, old, new) if old or name != ref else []
        path = log_path(self.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(line + b"\n" for line in lines))


def _is_there(objects: GitObjects, oid: str) -> bool:
    with contextlib.suppress(NotFound):
        objects.read(oid)
        return True
    return False


def _make_repository(repository: Path, past: Path, refs: dict[str, str]) -> None:
    """A repository with other refs."""
    (past / "refs").mkdir(parents=True)
    (past / "objects").symlink_to(repository / "objects")
    for name in ("HEAD", "config"):
        shutil.copyfile(repository / name, past / name)
    lines = sorted((os.fsencode(ref), oid) for ref, oid in refs.items())
    (past / "packed-refs").write_bytes(_HEADER + b"".join(b"%s %s\n" % (oid.encode(), ref) for ref, oid in lines))


def _refusal(operation: Operation) -> ReadOnly:
    message = f"the store is looked at as it was after operation {operation.id}: nothing can be changed"
    return ReadOnly(message, at_operation=operation.id)
