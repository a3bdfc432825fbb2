"""Commits, branches, tags and reflogs: a real git repository. Only here, in packing, gitobjects and gitrefs is pygit2.

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

from vcs.ancestry import Ancestry
from vcs.commits import Commit, Commits
from vcs.errors import AlreadyExists, BadInput, Conflict, Corrupt, Missing, NotFound
from vcs.gitfiles import add_refs, drop_refs
from vcs.gitobjects import GitObjects, make_repository, signature_of, stamp_of, translated
from vcs.gitrefs import GitRefs, Move, check_name
from vcs.gitwords import BRANCHES as BRANCHES
from vcs.gitwords import FILE, NO_ID, clean, is_of_notes, kind, moved, one_line, short, tree_of
from vcs.gitwords import TAGS as TAGS
from vcs.gitwords import Author as Author
from vcs.locks import flocked
from vcs.model import CommitId, RootId
from vcs.names import RefFiles
from vcs.operations import Operations
from vcs.packing import has_object
from vcs.reflogs import RefChange as RefChange
from vcs.reflogs import carry_on, continued, heads_branch, seal
from vcs.signed import Sign
from vcs.snapshot import CommitInfo

_ROOT_FILE = "root"
_CONFIG_FILE = "config.json"
_NOTHING: Mapping[str, Sequence[bytes]] = MappingProxyType({})


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
        """For settings. What is about objects is asked through `_git`, what is about refs through `_refs`."""
        self._refs = GitRefs(self._repo)
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
        check_name(ref)
        with translated(), self.locked():
            current = self.target(ref)
            if current != expected and not force:
                raise Conflict(moved(ref, current, expected), ref=ref, expected=expected, found=current)
            self._must_be_there(new)
            if current != new:
                with self._operations.noting({ref: (current, new)}, None, author, reason):
                    self._refs.move(Move(ref, current, new, reason, author, durable))

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
                check_name(ref)
                if self.target(ref) is not None:
                    raise AlreadyExists(moved(ref, commit, None), name=short(ref))
            self._must_be_there(*refs.values())
            who = stamp_of(pygit2.Signature(clean(author.name), clean(author.email)))
            lines = {
                ref: f"{NO_ID} {commit} ".encode() + who + b"\t" + one_line(reason).encode()
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
        """Let every process know that objects are removed. The caller holds the lock, and until he gives it back nobody
        looks: so before they are, since he may be killed in between."""
        os.utime(self._lock_path, ns=(time.time_ns(),) * 2)

    # -- reading

    def target(self, ref: str) -> CommitId | None:
        """The object a ref (full name) names, not peeled; None if there is no such ref."""
        return self._refs.target(ref)

    def has(self, oid: str) -> bool:
        """Whether there is an object of git's with this full id. Corrupt or OSError if it cannot be told."""
        with translated():
            return has_object(self._git, Path(self._repo.path) / "objects", oid)

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
        return self._refs.reflog(ref)

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
