"""Small histories by chance: commits with several parents, whose roots are made of few files and few contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from hypothesis import strategies as st

from tests.support.values import Spec, root
from vcs.history import Author
from vcs.model import CommitId
from vcs.store import Store

Files: TypeAlias = "dict[str, bytes]"
PATHS = ("d/e/f", "d/e/g", "d/h", "i")
TEXTS = (b"one\ntwo\n", b"one\ntwo\nthree\n", b"zero\none\nthree\ntwo\n", b"two\n", b"\0binary")


@dataclass(frozen=True)
class Sketch:
    """A commit before it is made. `parents` are the numbers of earlier ones; `time` is in seconds."""

    parents: tuple[int, ...]
    files: Files
    time: int


@dataclass(frozen=True)
class Made:
    """The same commits in a store."""

    store: Store
    sketches: Sequence[Sketch]
    ids: Sequence[CommitId]

    def ancestors(self, number: int) -> set[int]:
        """A commit and all that it stands on."""
        found: set[int] = set()
        todo = [number]
        while todo:
            one = todo.pop()
            if one not in found:
                found.add(one)
                todo += self.sketches[one].parents
        return found


@st.composite
def sketches(draw: st.DrawFn) -> list[Sketch]:
    """Up to nine commits. A commit mostly has the files of one of its parents, but for one."""
    made: list[Sketch] = []
    for number in range(draw(st.integers(1, 9))):
        most = min(number, draw(st.sampled_from([1, 1, 1, 2, 2, 3])))
        parents = (
            draw(st.lists(st.integers(max(0, number - 4), number - 1), max_size=most, unique=True)) if most else []
        )
        files = dict(made[draw(st.sampled_from(parents))].files) if parents else {}
        for path in draw(st.lists(st.sampled_from(PATHS), max_size=2)):
            text = draw(st.none() | st.sampled_from(TEXTS))
            files.pop(path, None)
            files |= {} if text is None else {path: text}
        made.append(Sketch(tuple(parents), files, draw(st.integers(0, 60))))
    return made


def make(store: Store, wanted: Sequence[Sketch]) -> Made:
    """Write commits into a store; no ref names them."""
    ids: list[CommitId] = []
    with store.writing():
        with store.batch() as batch:
            roots = [root(batch, nested(sketch.files)) for sketch in wanted]
        for number, (sketch, made) in enumerate(zip(wanted, roots, strict=True)):
            author = Author("Ana", "ana@example.org", 1_700_000_000 + sketch.time)
            parents = tuple(ids[parent] for parent in sketch.parents)
            ids.append(store.add_commit(made, {}, f"number {number}", author, parents))
    return Made(store, wanted, ids)


def nested(files: Files) -> Spec:
    """Paths and contents as a tree of directories."""
    top: dict[str, object] = {}
    for path, text in files.items():
        *folders, name = path.split("/")
        here = top
        for folder in folders:
            here = here.setdefault(folder, {})  # type: ignore[assignment]
        here[name] = text
    return top


def line_of(texts: Sequence[bytes]) -> Iterator[Sketch]:
    """A line of commits, a minute apart, in which a file `f` has one text after the other."""
    for number, text in enumerate(texts):
        yield Sketch((number - 1,) if number else (), {"f": text}, 60 * number)
