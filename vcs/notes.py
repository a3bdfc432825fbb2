"""Notes on commits, as git-notes(1) has them: texts that are added later, without changing the commit.

`refs/notes/commits` names a commit of another kind, which has no root: its tree holds a file for each note, named by
the id of the commit that it is about. Where there are many, the names are cut in directories, `ab/cdef...`, as git
does; any cut is understood. A note keeps no commit: what gc removes leaves its note behind, as with git
(`git notes prune`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from vcs.commits import parsed
from vcs.errors import AlreadyExists, BadInput, Conflict, NotFound
from vcs.gitwords import DIRECTORY, FILE, NOTES, Author, clean, stamp, tree_entries, tree_of
from vcs.model import CommitId

if TYPE_CHECKING:
    from vcs.gitobjects import GitObjects
    from vcs.history import History
    from vcs.store import Store

REF = NOTES + "commits"
_COMMIT, _TREE, _BLOB = 1, 2, 3
"""git's numbers for kinds of objects."""
_NAME = re.compile(rb"[0-9a-f/]+")
_FEW = 255
"""So many notes lie in one directory."""
_TRIES = 5

Raw = Callable[[str], bytes]
"""Reads a git object by its id, or raises NotFound."""
Files = dict[bytes, tuple[bytes, str]]
"""By path: a file's mode and its blob."""


class Notes:
    """The notes there are at one moment, read as they are asked for. `raw` reads a git object."""

    def __init__(self, raw: Raw, tip: str | None) -> None:
        self._raw = raw
        self._top = parsed(tip, raw(tip)).tree if tip else None
        self._trees: dict[str, dict[bytes, tuple[bytes, str]]] = {}

    def find(self, commit: str) -> str | None:
        """The note on a commit, by its full id; None if there is none."""
        tree, rest = self._top, commit.encode()
        while tree is not None:
            if tree not in self._trees:
                self._trees[tree] = dict(tree_entries(self._raw(tree)))
            here = self._trees[tree]
            mode, oid = here.get(rest, (b"", ""))
            if oid and mode != DIRECTORY:
                return self._raw(oid).decode("utf-8", "replace")
            mode, oid = here.get(rest[:2], (b"", ""))
            tree, rest = (oid if mode == DIRECTORY else None), rest[2:]
        return None

    def all(self) -> dict[CommitId, str]:
        """The blob of each note, by the commit that it is about, sorted."""
        files = _files(self._raw, self._top) if self._top else {}
        found = {path.replace(b"/", b"").decode(): oid for path, (_, oid) in files.items() if _is_note(path)}
        return {CommitId(commit): found[commit] for commit in sorted(found)}


def notes_of(history: History) -> Notes:
    """The notes of a history, as they are now."""
    return Notes(history.raw, history.target(REF))


def are_notes(raw: Raw, commit: str) -> bool:
    """Whether a commit is one that holds notes: its tree has neither of the files that are in each commit of a root.
    NotFound, Corrupt."""
    names = {name for name, _ in tree_entries(raw(parsed(commit, raw(commit)).tree))}
    return names.isdisjoint((b"root", b"config.json"))


def needed(oid: str, kind: int, data: bytes) -> list[str]:
    """What an object of git's consists of, of those that hold notes: commits, trees and files. Corrupt."""
    if kind == _COMMIT:
        commit = parsed(oid, data)
        return [commit.tree, *commit.parents]
    return [below for _, (_, below) in tree_entries(data)] if kind == _TREE else []


def put(store: Store, commit: CommitId, text: str, author: Author, *, force: bool = False, append: bool = False) -> str:
    """Write the note on a commit, durably; with `append` below the one there is, with `force` in its place. Returns the
    note. AlreadyExists if there is one; BadInput if the text is empty."""
    if not _stripped(text):
        raise BadInput("a note cannot be empty; `note remove` takes one away", commit=commit)

    def edit(old: str | None) -> str:
        if old is None or force:
            return _stripped(text)
        if not append:
            raise AlreadyExists(f"commit {commit[:12]} has a note already", note=commit)
        return f"{old.rstrip()}\n\n{_stripped(text)}"

    return _change(store, commit, edit, author, "append" if append else "add") or ""


def remove(store: Store, commit: CommitId, author: Author) -> None:
    """Take the note on a commit away. NotFound if there is none."""

    def edit(old: str | None) -> None:
        if old is None:
            raise NotFound(f"commit {commit[:12]} has no note", note=commit)

    _change(store, commit, edit, author, "remove")


def carried(
    history: History, objects: GitObjects, stands: Mapping[CommitId, CommitId | None], author: Author
) -> CommitId | None:
    """Write a commit in which the notes on commits are on those that stand for them too; None if there are none. No ref
    names it yet. The caller holds the lock on refs."""
    tip = history.target(REF)
    if tip is None:
        return None
    raw = _reader(objects)
    files = _files(raw, parsed(tip, raw(tip)).tree)
    notes = {path.replace(b"/", b"").decode(): file for path, file in files.items() if _is_note(path)}
    new = {
        now.encode(): notes[old]
        for old, now in stands.items()
        if old in notes and now and now != old and now not in notes
    }
    return _write(objects, files | new, tip, author, "Notes carried on to rewritten commits") if new else None


# -- details


def _change(
    store: Store, commit: CommitId, edit: Callable[[str | None], str | None], author: Author, verb: str
) -> str | None:
    """Write the notes anew with what `edit` makes of one. Once more if stock git, which does not know our lock, has
    moved them meanwhile."""
    from vcs.gitobjects import GitObjects

    history = store.history
    for left in reversed(range(_TRIES)):
        # All of it under the lock: what is written lies there unnamed only while gc waits.
        with history.locked(), closing(GitObjects(store.path / "history.git")) as objects:
            raw = _reader(objects)
            tip = history.target(REF)
            files = _files(raw, parsed(tip, raw(tip)).tree) if tip else {}
            places = [path for path in files if path.replace(b"/", b"") == commit.encode()]
            old = "\n\n".join(raw(files[path][1]).decode("utf-8", "replace") for path in places) if places else None
            new = edit(old)
            for path in places:
                del files[path]
            if new is not None:
                files[commit.encode()] = (FILE, objects.write(_BLOB, new.encode(errors="surrogateescape")))
            words = f"Notes {verb}{'ed' if verb != 'remove' else 'd'} by 'treering note {verb}'"
            made = _write(objects, files, tip, author, words)
            try:
                history.move(REF, made, tip, f"notes: {words}", author)
                return new
            except Conflict:
                if not left:
                    raise
        time.sleep(0.01)
    return None


def _write(objects: GitObjects, files: Files, parent: str | None, author: Author, message: str) -> CommitId:
    """A commit that holds notes."""
    count = sum(map(_is_note, files))
    cut = {_cut(path, count > _FEW) if _is_note(path) else path: file for path, file in files.items()}
    tree = _write_tree(objects, cut)
    who = stamp(clean(author.name).encode(), clean(author.email).encode(), author.time, author.offset)
    lines = [b"tree " + tree.encode(), *([b"parent " + parent.encode()] if parent else [])]
    data = b"\n".join([*lines, b"author " + who, b"committer " + who, b"", message.encode(), b""])
    return CommitId(objects.write(_COMMIT, data))


def _write_tree(objects: GitObjects, files: Files) -> str:
    here: dict[bytes, tuple[bytes, str]] = {}
    below: dict[bytes, Files] = {}
    for path, file in files.items():
        name, slash, rest = path.partition(b"/")
        if slash:
            below.setdefault(name, {})[rest] = file
        else:
            here[name] = file
    for name, inner in below.items():
        here[name] = (DIRECTORY, _write_tree(objects, inner))
    return objects.write(_TREE, tree_of(here))


def _files(raw: Raw, tree: str, above: bytes = b"") -> Files:
    """All files of a git tree, by their paths."""
    found: Files = {}
    for name, (mode, oid) in tree_entries(raw(tree)):
        if mode == DIRECTORY:
            found |= _files(raw, oid, above + name + b"/")
        else:
            found[above + name] = (mode, oid)
    return found


def _is_note(path: bytes) -> bool:
    return len(path.replace(b"/", b"")) == 40 and _NAME.fullmatch(path) is not None


def _cut(path: bytes, in_directories: bool) -> bytes:
    name = path.replace(b"/", b"")
    return name[:2] + b"/" + name[2:] if in_directories else name


def _reader(objects: GitObjects) -> Raw:
    return lambda oid: objects.read(oid)[1]


def _stripped(text: str) -> str:
    """As git-stripspace(1): no blanks at the ends of lines, no empty lines at either end, one newline at the end."""
    lines = [line.rstrip() for line in text.split("\n")]
    body = "\n".join(lines).strip("\n")
    return body + "\n" if body else ""
