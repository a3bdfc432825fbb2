"""Who wrote what: compared with a search through all files of all commits, on small histories by chance."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.support.small_history import PATHS, Made, Sketch, line_of, make, sketches
from tests.support.values import directory, file, root
from vcs.blame import blame, blame_lines
from vcs.blobs import put_data
from vcs.errors import BadInput, NotFound
from vcs.history import Author
from vcs.store import Store
from vcs.texts import TEXT_MAX, is_binary, paired_lines, split_lines


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.create(tmp_path_factory.mktemp("blame") / "store") as made:
        yield made


def below(made: Made, number: int, path: str) -> dict[str, bytes]:
    """All that a commit has at and below a path."""
    files = made.sketches[number].files.items()
    return {name: text for name, text in files if f"{name}/".startswith(f"{path}/" if path else "")}


def writer(made: Made, number: int, path: str) -> int:
    """Who wrote what is at a path, by its definition."""
    for parent in made.sketches[number].parents:
        if below(made, parent, path) == below(made, number, path):
            return writer(made, parent, path)
    return number


def line_writers(made: Made, number: int, path: str) -> list[int]:
    """Who wrote each line, by its definition."""
    text = made.sketches[number].files[path]
    parents = [one for one in made.sketches[number].parents if path in made.sketches[one].files]
    for parent in parents:
        if made.sketches[parent].files[path] == text:
            return line_writers(made, parent, path)
    found: dict[int, int] = {}
    for parent in parents:
        before = made.sketches[parent].files[path]
        if not is_binary(before):
            above = line_writers(made, parent, path)
            for old, new in paired_lines(split_lines(before), split_lines(text)).items():
                found.setdefault(new, above[old])
    return [found.get(place, number) for place in range(len(split_lines(text)))]


@settings(max_examples=60)
@given(sketches())
def test_blame_is_what_a_search_through_everything_says(store: Store, drawn: list[Sketch]) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1
    tip = made.ids[last]
    for path in PATHS:
        if path in drawn[last].files:
            (row,) = blame(store, tip, path.encode())
            assert (row.entry.name.decode(), made.ids.index(row.commit)) == (
                path.split("/")[-1],
                writer(made, last, path),
            )
    for folder in ("", "d", "d/e"):
        names = {name.removeprefix(f"{folder}/").split("/")[0] for name in below(made, last, folder)}
        if names:
            found = {row.entry.name.decode(): made.ids.index(row.commit) for row in blame(store, tip, folder.encode())}
            assert found == {name: writer(made, last, f"{folder}/{name}".lstrip("/")) for name in names}


@settings(max_examples=60)
@given(sketches())
def test_blame_of_lines_is_what_a_search_through_everything_says(store: Store, drawn: list[Sketch]) -> None:
    made = make(store, drawn)
    last = len(drawn) - 1
    for path, text in drawn[last].files.items():
        if not is_binary(text):
            lines = blame_lines(store, made.ids[last], path.encode())
            assert b"".join(line.text for line in lines) == text
            assert [made.ids.index(line.commit) for line in lines] == line_writers(made, last, path)


@given(st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"])), st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"])))
def test_paired_lines_are_the_same_and_in_order(old: list[bytes], new: list[bytes]) -> None:
    kept = sorted(paired_lines(old, new).items())
    assert all(old[here] == new[there] for here, there in kept)
    assert [there for _, there in kept] == sorted({there for _, there in kept})
    if old == new:
        assert len(kept) == len(new)


def test_lines_of_a_growing_text(store: Store) -> None:
    texts = [b"one\n", b"one\ntwo\n", b"zero\none\ntwo\n", b"zero\nONE\ntwo\nend"]
    made = make(store, list(line_of(texts)))
    lines = blame_lines(store, made.ids[-1], b"f")
    assert [(line.text, made.ids.index(line.commit)) for line in lines] == [
        (b"zero\n", 2), (b"ONE\n", 3), (b"two\n", 1), (b"end", 3)
    ]  # fmt: skip


def test_a_merge_wrote_only_what_neither_side_has(store: Store) -> None:
    sketch = [
        Sketch((), {"f": b"1\n2\n3\n", "g": b"g"}, 0),
        Sketch((0,), {"f": b"one\n2\n3\n", "g": b"g"}, 1),
        Sketch((0,), {"f": b"1\n2\nthree\n", "g": b"G"}, 2),
        Sketch((1, 2), {"f": b"one\n2\nthree\n", "g": b"G"}, 3),
    ]
    made = make(store, sketch)
    tip = made.ids[3]
    assert [made.ids.index(line.commit) for line in blame_lines(store, tip, b"f")] == [1, 0, 2]
    assert {row.entry.name: made.ids.index(row.commit) for row in blame(store, tip, b"/")} == {b"f": 3, b"g": 2}


def test_attributes_are_not_content(store: Store) -> None:
    with store.writing():
        with store.batch() as batch:
            first = root(batch, {"d": {"f": b"x"}})
            made = file(put_data(batch, b"x"), mode=0o600, mtime=5)
            second = root(batch, {"d": replace(directory(batch, {"f": made}), uid=7)})
        ana = Author("Ana", "ana@example.org", 1_700_000_000)
        one = store.add_commit(first, {}, "one", ana)
        two = store.add_commit(second, {}, "two", ana, (one,))
    assert blame(store, two, b"d/f")[0].commit == one
    assert blame(store, two, b"d")[0].commit == one


def test_a_type_is_content(store: Store) -> None:
    made = make(
        store, [Sketch((), {"x": b"file"}, 0), Sketch((0,), {"x/y": b"file"}, 1), Sketch((1,), {"x": b"file"}, 2)]
    )
    assert blame(store, made.ids[2], b"x")[0].commit == made.ids[2]
    assert blame(store, made.ids[1], b"x")[0].commit == made.ids[1]


def test_what_has_no_lines_is_told(store: Store) -> None:
    made = make(store, [Sketch((), {"binary": b"a\0b", "large": b"x\n" * TEXT_MAX, "d/f": b"", "g": b""}, 0)])
    for path, words in ((b"binary", "binary"), (b"large", "larger than 1 MiB"), (b"d", "not a file but a directory")):
        with pytest.raises(BadInput, match=words):
            blame_lines(store, made.ids[0], path)
    assert blame_lines(store, made.ids[0], b"g") == []
    for path in (b"none", b"d/f/none"):
        with pytest.raises(NotFound):
            blame(store, made.ids[0], path)
        with pytest.raises(NotFound):
            blame_lines(store, made.ids[0], path)
