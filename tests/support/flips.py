"""Flipped bytes: a small store with one of everything, what is read from it, and what a check says of each flip.

`python -m tests.support.flips 1000 [SEED]` flips that many bytes at random places of such a store and tells, by kind of
file, how many a check noticed. It fails if a flip made a read give wrong bytes.
"""

from __future__ import annotations

import random
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusefs.filesystem import FileSystem, attributes
from fusefs.inodes import Folder, Node
from fusefs.view import ROOT
from runtime.check import check_containers
from runtime.containers import Containers
from runtime.settings import Settings
from tests.support.values import Spec, directory, file, link
from vcs.batch import Batch
from vcs.bisection.notebook import Words
from vcs.bisection.session import Bisection
from vcs.blobs import BlobWriter, put_data
from vcs.check import Problem, examine
from vcs.errors import TreeringError
from vcs.history import Author
from vcs.model import CommitId, Device, Entry, Link, RootId, Special
from vcs.store import Store
from vcs.trees import write_root

AUTHOR = Author("Ada Tester", "ada@example.org", 1_700_000_000)
MAIN = "refs/heads/main"
_GIT = "history.git/"
_NOISE = random.Random(11).randbytes(66 << 10)
"""Enough for a block that has sums, of which parts are read alone."""
_DIRECTORIES = ("layers/", "containers/", *(f"{_GIT}{name}/" for name in ("objects/pack", "objects", "refs", "logs")))


def make_store(path: Path) -> None:
    """Four layers; commits that are packed and some that are not; refs, tags, a container and a bisection."""
    chance = random.Random(7)
    texts = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(40)]
    with Store.create(path) as store:
        with store.batch() as batch:  # by itself: with what compresses it would be compressed
            batch.put_chunk(_NOISE)
        first = _commit(store, MAIN, texts, 0)
        store.history.tag("v1", first, "a release", AUTHOR)
        git = ["git", "-C", str(path / "history.git")]
        subprocess.run([*git, "repack", "-adqn"], check=True)
        subprocess.run([*git, "pack-refs", "--all"], check=True)
    with Store.open(path) as store:
        second = _commit(store, MAIN, texts, 20)
        store.history.tag("v2", second, None, AUTHOR)
        _commit(store, "refs/heads/other", texts, 30)
        settings = Settings(args=("sh", "-c", "true"), env=("A=b",))
        Containers(store).create("main", second, settings, AUTHOR, "web")
        Bisection(store).start(second, [first], AUTHOR, Words())


def _commit(store: Store, branch: str, texts: list[bytes], changed: int) -> CommitId:
    with store.batch() as batch:
        root = write_root(batch, directory(batch, _spec(batch, texts, changed)))
    parent = store.history.target(branch)
    made = store.add_commit(
        root, {"config": {"Cmd": ["sh"]}}, f"change {changed}\n", AUTHOR, (parent,) if parent else ()
    )
    store.history.move(branch, made, parent, f"commit: change {changed}", AUTHOR)
    return made


def _spec(batch: Batch, texts: list[bytes], changed: int) -> Spec:
    twin = file(put_data(batch, b"twins" * 50), link=Link(bytes(range(16)), 2), xattrs=((b"user.note", b"x" * 40),))
    sparse = BlobWriter(batch)
    for text in texts[changed : changed + 8]:
        sparse.feed(text)
        sparse.hole(100_000)
    noise = BlobWriter(batch)
    noise.hole(100_000)
    noise.feed(_NOISE)
    files = {f"f{number:03}": text[::-1] if number < changed else text for number, text in enumerate(texts)}
    return {
        "bin": link("usr/bin"),
        "dev": {"null": Entry(b"", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3))},
        "etc": {**files, "empty": b"", "twin": twin, "repeats": b"".join(b"%d lines\n" % n for n in range(2000))},
        "many": {f"{number:04}": b"%d" % (number % 50 + changed) for number in range(300)},
        "run": {"pipe": Entry(b"", stat.S_IFIFO | 0o600, 0, 0, 0, Special())},
        "var": {
            "twin": twin,
            "noise": file(noise.finish()),
            "sparse": file(sparse.finish(), uid=1000, mtime=1_700_000_000_123_456_789),
        },
    }


# -- reading


@dataclass(slots=True)
class Reading:
    """What was read of everything, compared with what is right."""

    right: int = 0
    failed: int = 0
    wrong: list[bytes] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """Errors that are not of the library's family."""


class Expected:
    """Everything in the commits of a store, as the file system shows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.roots: list[RootId] = []
        self._paths: dict[RootId, list[tuple[bytes, ...]]] = {}
        self._facts: dict[tuple[RootId, tuple[bytes, ...]], Any] = {}
        with Store.open(path) as store:
            self.roots = list({store.commit(commit).root for commit in store.commit_ids()})
            for root in self.roots:
                walk = store.snapshot(root).walk()
                self._paths[root] = [tuple(place.split(b"/")[1:]) for place, _ in walk if place != b"/"]
        with Store.open(path) as store:
            self._facts = dict(self._read(store, Reading()))

    def compare(self, path: Path) -> Reading:
        """Read everything, with the file system's own means."""
        reading = Reading()
        try:
            with Store.open(path) as store:
                for key, facts in self._read(store, reading):
                    reading.right += facts == self._facts[key]
                    if facts != self._facts[key]:
                        reading.wrong.append(b"/".join(key[1]))
        except TreeringError:
            reading.failed += 1
        return reading

    def _read(self, store: Store, reading: Reading) -> Iterator[tuple[tuple[RootId, tuple[bytes, ...]], Any]]:
        system = FileSystem(store)
        top = system.lookup(system.node(ROOT), b"trees")
        for root in self.roots:
            nodes: dict[tuple[bytes, ...], Node | None] = {}
            for path in [(), *self._paths[root]]:
                name, parent = (path[-1], nodes.get(path[:-1])) if path else (root.hex().encode(), top)
                try:
                    if parent is None:
                        continue
                    nodes[path] = node = system.lookup(parent, name)
                    if node is None and path:
                        reading.wrong.append(b"/".join(path))
                    if node is None:  # of a root, "no such file" is as good as an input/output error
                        reading.failed += 1
                        continue
                    facts = _facts(system, node)
                except (TreeringError, OSError):
                    reading.failed += 1
                except Exception as error:
                    reading.failed += 1
                    reading.odd.append(repr(error))
                else:
                    yield (root, path), facts


def _facts(system: FileSystem, node: Node) -> Any:
    kind = stat.S_IFMT(node.entry.mode)
    content = b""
    if kind == stat.S_IFLNK:
        content = system.target(node)
    elif kind == stat.S_IFREG:
        content = _content(system, node, 8 << 10)
        if _content(system, node, 64 << 10) != content:
            content += b" in small pieces, and something else in large ones"
    elif isinstance(node, Folder):
        content = b"%d" % len(system.listing(node))
    return attributes(node)[1:], dict(system.xattrs(node)), content


def _content(system: FileSystem, node: Node, piece: int) -> bytes:
    return b"".join(bytes(system.read(node, at, piece)) for at in range(0, node.entry.size, piece))


# -- flipping


@dataclass(frozen=True, slots=True)
class Flip:
    """One byte of one file, with another value."""

    file: Path
    position: int
    value: int


class Flipper:
    """A store in which bytes are flipped, one at a time."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._content = {path: path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}
        self.files = [path for path, data in self._content.items() if data]

    def kind(self, file: Path) -> str:
        """What sort of file it is."""
        name = file.relative_to(self.store).as_posix()
        for start in _DIRECTORIES:
            if name.startswith(start):
                return start.rstrip("/") + (file.suffix if "pack" in start else "")
        return name

    def anywhere(self, chance: random.Random) -> Flip:
        """Each byte of the store is as likely as any other."""
        file = chance.choices(self.files, [len(self._content[file]) for file in self.files])[0]
        return self.within(file, chance)

    def content(self, file: Path) -> bytes:
        """What a file held at first."""
        return self._content[file]

    def within(self, file: Path, chance: random.Random) -> Flip:
        """Any byte of a file."""
        data = self._content[file]
        position = chance.randrange(len(data))
        return Flip(file, position, data[position] ^ chance.randrange(1, 256))

    def apply(self, flip: Flip) -> None:
        """Flip a byte, of a store that is as it was otherwise."""
        self.restore()
        data = bytearray(self._content[flip.file])
        data[flip.position] = flip.value
        _write(flip.file, bytes(data))

    def restore(self) -> None:
        """Undo everything."""
        for path in self.store.rglob("*"):
            if path.is_file() and path not in self._content:
                path.unlink()
        for path, data in self._content.items():
            if not path.exists() or path.read_bytes() != data:
                _write(path, data)

    def check(self) -> list[Problem]:
        """What a check of every byte says; an error of the library is one problem."""
        try:
            problems = examine(self.store).problems
            with Store(self.store) as store:
                return problems + check_containers(store)
        except TreeringError as error:
            return [Problem("format", str(error))]


def _write(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


_NAMES = "containers/.names/.complete"
"""Whatever it says, unless it is this boot: the names are made anew."""


def is_silent(flipper: Flipper, flip: Flip) -> bool:
    """Whether nobody can notice a flip: docs/durability.md lists what there is of this kind."""
    name = flip.file.relative_to(flipper.store).as_posix()
    return name in (f"{_GIT}description", f"{_GIT}info/exclude", _NAMES) or name.startswith("leases/")


def main(count: int, seed: int) -> int:
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory_:
        store = Path(directory_) / "store"
        make_store(store)
        expected, flipper = Expected(store), Flipper(store)
        flips, noticed, silent, wrong = Counter[str](), Counter[str](), Counter[str](), 0
        for _ in range(count):
            flip = flipper.anywhere(chance)
            kind = flipper.kind(flip.file)
            flipper.apply(flip)
            problems = flipper.check()
            flipper.apply(flip)
            reading = expected.compare(store)
            wrong += bool(reading.wrong)
            flips[kind] += 1
            noticed[kind] += bool(problems)
            if reading.wrong or reading.odd or not (problems or is_silent(flipper, flip)):
                print(kind, flip, "noticed" if problems else "NOT NOTICED", reading.wrong, reading.odd)
            silent[kind] += not problems and is_silent(flipper, flip)
        for kind, number in sorted(flips.items()):
            print(f"{kind:32} {number:5} flips {noticed[kind]:5} noticed {silent[kind]:5} of bytes without a meaning")
        print(f"all: {count} flips, {noticed.total()} noticed, {silent.total()} silent, {wrong} with wrong reads")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
