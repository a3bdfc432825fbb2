"""Commits, branches, tags and reflogs: a real git repository. Only here, in packing and in gitobjects is pygit2.

A commit's git tree holds `root`, the root digest in hexadecimal, and `config.json`, the OCI image config. Anything that
can read git can read the history.

Durability (docs/architecture.md): libgit2 syncs nothing unless told to, and its create_commit() reports success on a
full disk. So every object and ref is written with fsync on, commits go through the raw object writer, and refs move
by compare-and-swap under a flock of ours, which a killed process cannot leave behind as it does a `main.lock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pygit2
from pygit2.enums import ObjectType, SortMode
from pygit2.transaction import ReferenceTransaction

from vcs.ancestry import Ancestry
from vcs.commits import Commit, Commits
from vcs.durable import sync_all
from vcs.errors import AlreadyExists, BadInput, Conflict, Corrupt, InvalidName, Missing, NotFound
from vcs.gitfiles import add_refs, drop_interrupted, drop_refs, packed_refs
from vcs.gitobjects import GitObjects, make_repository, retry, signature_of, stamp_of, translated
from vcs.gitwords import BRANCHES as BRANCHES
from vcs.gitwords import FILE, clean, is_in_the_way, is_of_notes, kind, moved, one_line, short, tree_of
from vcs.gitwords import TAGS as TAGS
from vcs.gitwords import Author as Author
from vcs.locks import flocked
from vcs.model import CommitId, RootId
from vcs.names import RefFiles
from vcs.operations import Operations
from vcs.reflogs import RefChange as RefChange
from vcs.reflogs import carry_on, continued, heads_branch, heads_line, seal, without_seal
from vcs.signed import Sign
from vcs.snapshot import CommitInfo

_ROOT_FILE = "root"
_CONFIG_FILE = "config.json"
_ZERO = "0" * 40
_NOTHING: Mapping[str, Sequence[bytes]] = MappingProxyType({})


class _SecondPassed(Exception):
    """Nothing has been changed yet, and what was to be is of the second before."""


class History:
    """The git repository of a store."""

    def __init__(self, path: Path, lock: Path, operations: Operations | None = None) -> None:
        self._lock_path = lock
        self._operations = operations or Operations(path.parent / "operations.log")
        self._locks_held = 0
        self._pruned = 0
        self._git = GitObjects(path)
        self._loose = self._git.loose
        self._repo = self._git.repository
        """For refs and settings. What is about objects is asked through `_git`."""
        self._files = RefFiles(path)

    @classmethod
    def create(cls, path: Path, lock: Path) -> History:
        """Make an empty history whose first branch will be `main`."""
        make_repository(path)
        return cls(path, lock)

    def close(self) -> None:
        """Free libgit2's descriptors."""
        self._git.close()

    # -- writing

    def write_commit(
        self, root: RootId, config: dict[str, Any], message: str, author: Author, parents: tuple[CommitId, ...]
    ) -> CommitId:
        """Write a commit, durably; nothing refers to it yet."""
        return self.write(self.drafted(root, config, message, author, parents)[0])

    def write(self, commit: bytes) -> CommitId:
        """Write a commit's bytes, durably."""
        return CommitId(self._git.write(ObjectType.COMMIT, commit))

    def drafted(
        self, root: RootId, config: dict[str, Any], message: str, author: Author, parents: tuple[CommitId, ...]
    ) -> tuple[bytes, str]:
        """The bytes of a commit that is not written, and the id of its tree, which is, durably."""
        if "\0" in message:
            raise BadInput("a commit message cannot contain NUL")
        with translated():
            who, by = signature_of(author), signature_of(author.committer or author)
            text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            files = {_CONFIG_FILE: text.encode(), _ROOT_FILE: f"{root.hex()}\n".encode()}
            written = {os.fsencode(name): self._git.write(ObjectType.BLOB, data) for name, data in files.items()}
            tree = self._git.write(ObjectType.TREE, tree_of({name: (FILE, oid) for name, oid in written.items()}))
            with self._git.asking() as repo:  # whether the parents are commits
                raw = repo.create_commit_string(who, by, message, tree, list(parents))
            return cast(str, raw).encode(), tree

    def move(
        self, ref: str, new: CommitId, expected: CommitId | None, reason: str, author: Author,
        *, force: bool = False, durable: bool = True,
    ) -> None:  # fmt: skip
        """Point a ref (full name) at a commit, durably, if it points at `expected` now (None: if it does not exist).

        Conflict if it does not. With `force`, wherever it points. `reason` goes into the reflog. Unless `durable`, a
        power cut may take a new ref away, but leaves nothing half written.
        """
        _check_name(ref)
        with translated(), self.locked():
            current = self.target(ref)
            if current != expected and not force:
                raise Conflict(moved(ref, current, expected), ref=ref, expected=expected, found=current)
            self._must_be_there(new)
            if current != new:
                with self._operations.noting({ref: (current, new)}, None, author, reason):
                    self._set(ref, current, new, reason, author, durable)

    def continue_reflog(self, before: str, ref: str) -> None:
        """Have a new ref's reflog begin with that of another ref, whose place it takes. Durable."""
        with translated(), self.locked():
            carry_on(Path(self._repo.path), before, ref)

    def name_all(
        self,
        refs: Mapping[str, CommitId],
        reason: str,
        author: Author,
        before: Mapping[str, Sequence[bytes]] = _NOTHING,
    ) -> None:
        """Make many refs at once, durably: all or, if the machine stops, none. AlreadyExists if one of them is there,
        NotFound if a commit is not. `before` are lines of reflogs that go on with this."""
        with translated(), self.locked():
            for ref, commit in refs.items():
                _check_name(ref)
                if self.target(ref) is not None:
                    raise AlreadyExists(moved(ref, commit, None), name=short(ref))
            self._must_be_there(*refs.values())
            who = stamp_of(pygit2.Signature(clean(author.name), clean(author.email)))
            lines = {
                ref: f"{_ZERO} {commit} ".encode() + who + b"\t" + one_line(reason).encode()
                for ref, commit in refs.items()
            }
            logs = {
                ref: b"".join(each + b"\n" for each in continued(before.get(ref, ()), [line + seal(line)]))
                for ref, line in lines.items()
            }
            changes = {ref: (None, commit) for ref, commit in refs.items()}
            with self._operations.noting(changes, None, author, reason):
                add_refs(Path(self._repo.path), refs, logs)

    def delete_all(self, refs: Iterable[str], *, durable: bool = True) -> None:
        """Remove many refs at once; those that there are. Unless `durable`, a power cut may bring them back."""
        with translated(), self.locked():
            refs = list(refs)
            gone = {ref: (found, None) for ref in refs if (found := self.target(ref))}
            with self._operations.noting(gone, reason="refs removed"):
                drop_refs(Path(self._repo.path), refs, durable=durable)

    def delete(self, ref: str) -> CommitId:
        """Remove a ref; returns the commit it named. NotFound if there is none."""
        with translated(), self.locked():
            current = self.target(ref)
            if current is None:
                raise NotFound(f"no {kind(ref)} {short(ref)!r}", name=short(ref))
            with self._operations.noting({ref: (current, None)}, reason=f"{short(ref)} deleted"):
                drop_refs(Path(self._repo.path), [ref])
            return current

    def tag(
        self, name: str, commit: CommitId, message: str | None, author: Author, *, force: bool = False,
        sign: Sign | None = None,
    ) -> None:  # fmt: skip
        """Make a tag: with a message an annotated one, signed if that is wished, otherwise a plain ref."""
        ref = TAGS + name
        if self.target(ref) and not force:
            raise AlreadyExists(f"tag {name!r} exists already", name=name)
        if message is None:
            self.move(ref, commit, None, f"tag {name}", author, force=force)
            return
        lines = f"object {commit}\ntype commit\ntag {name}\ntagger ".encode()
        text = lines + stamp_of(signature_of(author)) + f"\n\n{message.rstrip()}\n".encode()
        text += sign(text) if sign else b""  # before the lock: a key may ask somebody
        with translated(), self.locked():
            self._must_be_there(commit)
            oid = CommitId(self._git.write(ObjectType.TAG, text))
            self.move(ref, oid, None, f"tag {name}", author, force=force)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on refs, and on what gc removes. The kernel drops it when the process ends, however it ends.

        May be nested.
        """
        with contextlib.ExitStack() as stack:
            if not self._locks_held:
                stack.enter_context(flocked(self._lock_path, fcntl.LOCK_EX))
                self._forget_pruned()
            self._locks_held += 1
            try:
                yield
            finally:
                self._locks_held -= 1

    def note_pruning(self) -> None:
        """Let every process know that objects were removed. The caller holds the lock."""
        os.utime(self._lock_path, ns=(time.time_ns(),) * 2)

    # -- reading

    def target(self, ref: str) -> CommitId | None:
        """The object a ref (full name) names, not peeled; None if there is no such ref."""
        with translated():
            try:
                return CommitId(str(self._repo.references[ref].resolve().target))
            except (KeyError, pygit2.InvalidSpecError):
                return None

    def has(self, oid: str) -> bool:
        """Whether there is an object of git's with this full id. Corrupt if it cannot be told."""
        with translated(), self._git.asking() as repo:
            return oid in repo

    def refs(self, prefix: str) -> dict[str, CommitId]:
        """The refs below a prefix ("refs/heads/"), without it, sorted, each peeled to its commit."""
        with translated():
            found = self._files.ids(os.fsencode(prefix), strict=True)
        ancestry = Ancestry(self.raw)
        return {os.fsdecode(ref).removeprefix(prefix): _peeled(ancestry, ref, found[ref]) for ref in sorted(found)}

    def resolve(self, revision: str) -> CommitId:
        """A revision in git's syntax (gitrevisions(7)): `main`, `v1^`, `main~2`, `main@{1}`, an abbreviated id."""
        try:
            with self._git.asking() as repo:
                return CommitId(str(repo.revparse_single(revision).peel(pygit2.Commit).id))
        except KeyError:
            raise NotFound(f"no revision {revision!r}", revision=revision) from None
        except (ValueError, pygit2.GitError) as error:
            reason = "it is ambiguous" if "ambiguous" in str(error) else "it does not name a commit"
            raise NotFound(f"no revision {revision!r}: {reason}", revision=revision) from None
        except OSError:  # no descriptor is left, or the disk fails
            with translated():
                raise

    def info(self, commit: str) -> CommitInfo:
        """A commit's facts, by its full id. NotFound, Missing or Corrupt."""
        commits = Commits(self.raw)
        return commits.info(_named(commits, commit))

    def raw(self, name: str) -> bytes:
        """The bytes of a commit or a tag object, by its full id: header lines, an empty line, the message. NotFound."""
        data = self._loose.read(name)
        return self._git.read(name)[1] if data is None else data

    def config(self, commit: str) -> dict[str, Any]:
        """A commit's OCI image config."""
        commits = Commits(self.raw)
        try:
            value = json.loads(commits.file(_named(commits, commit), _CONFIG_FILE))
        except (ValueError, RecursionError) as error:
            raise Corrupt(f"commit {commit}: config.json cannot be read: {error}", commit=commit) from None
        if not isinstance(value, dict):
            raise Corrupt(f"commit {commit}: config.json is not an object", commit=commit)
        return value

    def log(
        self, start: list[CommitId], limit: int | None = None, hide: Sequence[CommitId] = ()
    ) -> Iterator[CommitInfo]:
        """Commits reachable from `start` and not from `hide`, newest first, children before parents."""
        if not start:
            return
        with translated(), self._git.asking() as repo:
            walker = repo.walk(start[0], SortMode.TOPOLOGICAL | SortMode.TIME)
            for more in start[1:]:
                walker.push(more)
            for end in hide:
                walker.hide(end)
            found = [str(commit.id) for commit in islice(walker, limit)]
        yield from map(self.info, found)

    def commit_ids(self) -> list[CommitId]:
        """Every commit reachable from a ref, newest first; without those that hold notes."""
        tips = {oid for ref, oid in self.refs("refs/").items() if not is_of_notes(f"refs/{ref}")}
        with translated(), self._git.asking() as repo:
            walker = repo.walk(None, SortMode.TOPOLOGICAL | SortMode.TIME)
            for commit in tips:
                walker.push(commit)
            return [CommitId(str(commit.id)) for commit in walker]

    def is_ancestor(self, ancestor: CommitId, commit: CommitId) -> bool:
        """Whether `ancestor` is `commit` or one of its ancestors."""
        with translated(), self._git.asking() as repo:
            return ancestor == commit or repo.descendant_of(commit, ancestor)

    def merge_base(self, commits: Sequence[CommitId]) -> CommitId | None:
        """The best common ancestor of all of them (git-merge-base(1), --octopus); None if they have none."""
        with translated(), self._git.asking() as repo:
            first, *others = dict.fromkeys(commits)
            found = repo.merge_base_octopus([first, *others]) if others else first
            return None if found is None else CommitId(str(found))

    def reflog(self, ref: str) -> list[RefChange]:
        """Where a ref (full name) pointed, newest first. NotFound if there is no such ref."""
        if self.target(ref) is None:
            raise NotFound(f"no {kind(ref)} {short(ref)!r}", name=short(ref))
        with translated():
            return [
                RefChange(
                    index, _id(entry.oid_old), cast(CommitId, _id(entry.oid_new)), entry.committer.name,
                    entry.committer.time, os.fsdecode(without_seal(os.fsencode(entry.message or ""))),
                )
                for index, entry in enumerate(self._repo.references[ref].log())
            ]  # fmt: skip

    def head(self) -> str | None:
        """The full name of HEAD's branch: reflogs.heads_branch."""
        return heads_branch(Path(self._repo.path))

    def user(self) -> tuple[str | None, str | None]:
        """user.name and user.email as git finds them: in this history's config, the user's, the system's."""
        return self.setting("user.name"), self.setting("user.email")

    def setting(self, key: str) -> str | None:
        """A value of git's config, found in the same places; None if there is none."""
        try:
            return self._repo.config[key] or None
        except (KeyError, pygit2.GitError):
            return None  # a config that git cannot read is no reason to refuse a commit

    # -- details

    def _must_be_there(self, *objects: str) -> None:
        for oid in objects:
            if not self.has(oid):
                raise NotFound(f"commit {oid[:12]} is not there any more", revision=oid)

    def _forget_pruned(self) -> None:
        """If objects were removed since, forget what was read. libgit2 does not write an object that it believes to be
        there, in a pack that is open though it was deleted, say; nor does it refuse to point a ref at one."""
        pruned = self._lock_path.stat().st_mtime_ns
        if pruned != self._pruned:
            self._git.close()
            self._pruned = pruned

    def _set(
        self, ref: str, current: CommitId | None, new: CommitId, reason: str, author: Author, durable: bool
    ) -> None:
        def change() -> None:
            is_moved = False
            while not is_moved:
                with (
                    contextlib.suppress(_SecondPassed),
                    heads_line(Path(self._repo.path), ref) as heads,
                    self._repo.transaction() as transaction,
                ):
                    transaction.lock_ref(ref)
                    if current is None and durable:
                        # Git's lock before the reflog, which without it would be that of a ref that was lost.
                        sync_all([above[0], *changing])
                    if (now := self.target(ref)) != current:  # another program's doing: it does not know our lock
                        raise Conflict(moved(ref, now, current), ref=ref, expected=current, found=now)
                    heads.append(self._set_sealed(transaction, ref, current, new, one_line(reason), author))
                    is_moved = True

        above = self._above(ref)
        # libgit2 makes a file durable in its own directory. That may be new too, and the one above it.
        changing = above[1 : 1 + sum(not path.is_dir() for path in above)]
        if current is not None:
            is_packed = not Path(self._repo.path, ref).exists()
            retry(Path(self._repo.path), change)
            if is_packed:
                sync_all(changing)  # it got a file, perhaps in directories that are new too
            return
        if any(is_in_the_way(other, ref) for other in packed_refs(Path(self._repo.path))):
            self._check_room(ref)  # a transaction does not look there
        try:
            retry(Path(self._repo.path), change)
        except (pygit2.GitError, OSError):
            drop_interrupted(Path(self._repo.path), [ref], is_ours=True)
            self._check_room(ref)
            raise

    def _set_sealed(
        self, transaction: ReferenceTransaction, ref: str, current: str | None, new: str, message: str, author: Author
    ) -> bytes:
        """Have a ref moved, with a line in its reflog that carries its seal. Returns the line.

        libgit2 notes the time when a transaction is first told of a move. So the seal is made for the present second,
        and if that has passed meanwhile, another transaction is needed: _SecondPassed.
        """
        name, email = clean(author.name), clean(author.email)
        self._repo.set_ident(name, email)
        now = stamp_of(pygit2.Signature(name, email))
        line = f"{current or _ZERO} {new} ".encode() + now + b"\t" + message.encode()
        transaction.set_target(ref, new, message=message + seal(line).decode())
        if stamp_of(pygit2.Signature(name, email)) != now:
            raise _SecondPassed
        return line + seal(line) + b"\n"

    def _check_room(self, ref: str) -> None:
        """A ref is a file or a directory: with `main` there can be no `main/sub`, and the other way round."""
        for other in self._repo.references:
            if is_in_the_way(other, ref):
                raise AlreadyExists(
                    f"{kind(other)} {short(other)!r} exists, so {short(ref)!r} cannot", name=short(other)
                )

    def _above(self, ref: str) -> list[Path]:
        """The directories that a ref is in, from its own upwards."""
        top = Path(self._repo.path)
        return [path for path in Path(top, ref).parents if top in path.parents]


def _named(commits: Commits, name: str) -> Commit:
    """A commit that a user may have named. NotFound if it is not there."""
    try:
        return commits.read(name)
    except Missing:
        raise NotFound(f"no commit {name}", revision=name) from None


def _peeled(ancestry: Ancestry, ref: bytes, oid: str) -> CommitId:
    try:
        commit = ancestry.peeled(oid)
    except Missing:
        raise Corrupt(f"the ref {os.fsdecode(ref)!r} names {oid}, which is not there", ref=ref) from None
    if commit is None:
        raise Corrupt(f"the ref {os.fsdecode(ref)!r} names {oid}, which leads to no commit", ref=ref)
    return commit


def _check_name(ref: str) -> None:
    if not pygit2.reference_is_valid_name(ref):
        raise InvalidName(f"{short(ref)!r} cannot be a name: see git-check-ref-format(1)", name=short(ref))


def _id(oid: pygit2.Oid) -> CommitId | None:
    return None if str(oid) == _ZERO else CommitId(str(oid))
