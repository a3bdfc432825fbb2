"""The read interface of a store: commits by name, and the filesystem of each. The only one that fusefs sees.

A Snapshot is one root, opened. Its paths are raw bytes, absolute or not ("/etc", "etc"), and walking them never follows
symbolic links except where a method says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from vcs.blobreader import BlobReader, file_pieces
from vcs.errors import BadInput, NotFound
from vcs.model import Chunked, CommitId, Data, Entry, RootId, Symlink, Tree
from vcs.profiles import Item, Profile, open_profile
from vcs.trees import Directory, read_root

if TYPE_CHECKING:
    from vcs.trees import Objects

_MAX_LINKS = 40


@dataclass(frozen=True, slots=True)
class CommitInfo:
    """What a commit is, without its content. Times are seconds since 1970, `offset` minutes east of UTC."""

    id: CommitId
    root: RootId
    parents: tuple[CommitId, ...]
    message: str
    author: str
    email: str
    time: int
    offset: int


class Names(Protocol):
    """Names for commits, which may change at any time: branches, say. Slashes make directories of them; where there is
    `a/b` there is no `a`. A directory's name ends in a slash, that of all is empty."""

    def find(self, name: bytes) -> CommitId | None:
        """The commit that a name names, None if there is no such name."""
        ...

    def below(self, directory: bytes) -> Mapping[bytes, bool]:
        """What is in a directory, in no order, and whether each is a directory itself."""
        ...

    def is_directory(self, directory: bytes) -> bool:
        """Whether there are names in a directory."""
        ...


class Source(Protocol):
    """What a service needs of a store: names of commits, and their objects. `vcs.store.Store` is one."""

    @property
    def names(self) -> Mapping[str, Names]:
        """The kinds of names that there are: `branches`, `tags`, and whatever else names commits, as `containers`."""
        ...

    def get(self, digest: bytes) -> bytes:
        """An object's bytes, verified against its digest. Missing or Corrupt if it cannot be had."""
        ...

    def part(self, digest: bytes, start: int, end: int) -> bytes | None:
        """A range of an object's bytes, without reading the rest. None if that cannot be, or is of no use."""
        ...

    def branch_at(self, name: bytes, time: int) -> CommitId | None:
        """The commit that a branch named at a time (seconds since 1970), None if there was none."""
        ...

    def are_together(self, one: bytes, other: bytes) -> bool:
        """Whether having read one object, another can be had without reading anything."""
        ...

    def expect(self, digests: Iterable[bytes]) -> None:
        """These objects will be asked for soon, in this order."""
        ...

    def commit(self, commit: str) -> CommitInfo:
        """A commit by its full id. NotFound if there is none."""
        ...

    def reachable(self) -> Collection[CommitId]:
        """Every commit reachable from a ref, in no order."""
        ...

    def about(self) -> Mapping[str, str]:
        """What there is to say of the store itself: a few words for each of a few things."""
        ...


class Snapshot:
    """The read-only filesystem of one root."""

    def __init__(self, objects: Objects, root: RootId) -> None:
        self.objects = objects
        self.id = root
        self.root = read_root(objects, root)

    def directory(self, entry: Entry) -> Directory:
        """The entries of a directory. BadInput if it is none."""
        if not isinstance(entry.content, Tree):
            raise BadInput(f"{entry.name!r} is not a directory", name=entry.name)
        return Directory(self.objects, entry.content.tree)

    def find(self, path: bytes) -> Entry | None:
        """The entry at a path, None if there is none. Symbolic links on the way are not followed."""
        entry = self.root
        for name in split_path(path):
            if not entry.is_dir:
                return None
            found = self.directory(entry).lookup(name)
            if found is None:
                return None
            entry = found
        return entry

    def lookup(self, path: bytes) -> Entry:
        """The entry at a path. NotFound if there is none."""
        entry = self.find(path)
        if entry is None:
            raise NotFound(f"no such file: {path!r}", path=path)
        return entry

    def resolve(self, path: bytes) -> bytes:
        """The path with every symbolic link followed inside this root, `..` at the root staying there.

        The last name, and any below one that is missing, need not exist. BadInput after 40 links.
        """
        done: list[bytes] = []
        todo = list(reversed(split_path(path, keep_dots=True)))
        links = 0
        while todo:
            name = todo.pop()
            if name == b"..":
                del done[-1:]
                continue
            entry = self.find(b"/".join([*done, name]))
            if entry is None or not isinstance(entry.content, Symlink):
                done.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise BadInput(f"too many symbolic links in {path!r}", path=path)
            target = entry.content.target
            if target.startswith(b"/"):
                done.clear()
            todo.extend(reversed(split_path(target, keep_dots=True)))
        return b"/" + b"/".join(done)

    def walk(self, path: bytes = b"/") -> Iterator[tuple[bytes, Entry]]:
        """Every (path, entry) at and below `path`, parents first, names in byte order. Paths start with `/`."""
        top = b"/" + b"/".join(split_path(path))
        stack = [(top, self.lookup(path))]
        while stack:
            here, entry = stack.pop()
            yield here, entry
            if entry.is_dir:
                prefix = here if here.endswith(b"/") else here + b"/"
                stack.extend(reversed([(prefix + child.name, child) for child in self.directory(entry)]))

    def pieces(self, content: Data | Chunked) -> Iterator[tuple[int, bytes]]:
        """A file's content in order: pairs of a hole's length (0 for none) and bytes (empty for a hole)."""
        return file_pieces(self.objects, content)

    def read(self, content: Data | Chunked, offset: int = 0, size: int | None = None) -> bytes:
        """A range of a file's bytes; holes are zeros."""
        size = content.size if size is None else size
        if isinstance(content, Chunked):
            return BlobReader(self.objects, content).read(offset, size)
        return self.objects.get(content.chunk)[offset : offset + size] if content.size else b""


def resolve_parents(snapshot: Snapshot, path: bytes) -> bytes:
    """The path with the symbolic links above its last name followed, and not that name's own (see Snapshot.resolve)."""
    folder, _, name = path.rstrip(b"/").rpartition(b"/")
    return snapshot.resolve(folder).rstrip(b"/") + b"/" + name


def split_path(path: bytes, keep_dots: bool = False) -> list[bytes]:
    """The names of a path; empty ones and `.` dropped. `..` is refused (BadInput) unless kept."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if b".." in names and not keep_dots:
        raise BadInput(f"{path!r} contains '..'", path=path)
    return names


__all__ = [
    "BlobReader",
    "CommitInfo",
    "Directory",
    "Item",
    "Names",
    "Profile",
    "Snapshot",
    "Source",
    "open_profile",
    "resolve_parents",
    "split_path",
]
