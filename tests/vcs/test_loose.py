"""Commits and loose objects read without git's library: it says the same of them, and judges damaged ones."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pygit2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pygit2.enums import ObjectType

from vcs.errors import Corrupt, NotFound
from vcs.history import Author, History
from vcs.loose import LooseObjects
from vcs.model import CommitId, RootId

ANA = Author("Ana", "ana@example.org", 1_700_000_000, -330)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    path = tmp_path_factory.mktemp("loose")
    made = History.create(path / "history.git", path / "refs.lock")
    yield made
    made.close()


@pytest.fixture(scope="module")
def tree(history: History) -> str:
    return history.drafted(RootId(b"r" * 32), {}, "m\n", ANA, ())[1]


WORDS = st.binary(max_size=12).map(lambda text: text.translate(None, b"\n\0"))
NAMES = WORDS.map(lambda text: text.translate(None, b"<>"))
EDGES = "".join(map(chr, range(33))) + ".,:;<>\"\\'"
"""What libgit2 takes away at both ends of names. Git itself shows it, and so do we."""
TIMES = st.one_of(st.integers(0, 2**40).map(b"%d".__mod__), st.just(b"0"))
ZONES = st.one_of(
    st.tuples(st.sampled_from(b"+-"), st.integers(0, 9999)).map(lambda zone: b"%c%04d" % zone), st.just(b"+0000")
)
ENCODINGS = st.sampled_from([b"", b"encoding ISO-8859-1\n", b"encoding UTF-8\n", b"encoding of no kind\n"])
MESSAGES = st.binary(max_size=30).map(lambda text: text.translate(None, b"\0"))
SIGNATURES = st.sampled_from([b"", b"gpgsig -----BEGIN\n author Eve <eve@example.org> 1 +0000\n -----END\n"])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    NAMES, NAMES, TIMES, ZONES, ENCODINGS, SIGNATURES, st.binary(max_size=30).map(lambda b: b.translate(None, b"\0"))
)
@example(b"A <b", b"c", b"1", b"+1401", b"", b"", b"\n\nlate\n")
@example("Zoë".encode("latin-1"), b"", b"7", b"-0030", b"encoding ISO-8859-1\n", b"", "Größe\n".encode("latin-1"))
def test_gits_library_says_the_same_of_a_commit(
    history: History, tree: str, name: bytes, email: bytes, time: bytes, zone: bytes, encoding: bytes, signed: bytes,
    message: bytes,
) -> None:  # fmt: skip
    who = b"%s <%s> %s %s\n" % (name, email, time, zone)
    head = b"tree %s\nauthor %scommitter Ana <ana> 5 +0000\n" % (tree.encode(), who)
    commit = history.write(head + encoding + signed + b"\n" + message)
    theirs = pygit2.Repository(history._repo.path)[commit]
    assert isinstance(theirs, pygit2.Commit)
    ours = history.info(commit)
    assert (ours.time, ours.offset) == (theirs.author.time, theirs.author.offset)

    def read(text: bytes) -> str:
        try:
            return text.decode(theirs.message_encoding or "utf-8")
        except (LookupError, ValueError):
            return text.decode("utf-8", "replace")

    assert ours.message == read(theirs.raw_message).lstrip("\n")
    assert ours.author.strip(EDGES) == read(theirs.author.raw_name).strip(EDGES)
    assert ours.email.strip(EDGES) == read(theirs.author.raw_email).strip(EDGES)


@pytest.mark.parametrize("line", [b"author nobody", b"author", b"author > a <"])
def test_a_commit_that_nobody_made_is_corrupt(history: History, tree: str, line: bytes) -> None:
    made = history.write(b"tree %s\n%s\ncommitter Ana <ana> 5 +0000\n\nx\n" % (tree.encode(), line))
    with pytest.raises(Corrupt, match="who made it"):
        history.info(made)


def test_a_time_that_is_none_is_the_beginning(history: History, tree: str) -> None:
    made = history.write(b"tree %s\nauthor Ana <ana>\ncommitter Ana <ana> 5 +0000\n\nx\n" % tree.encode())
    assert (history.info(made).time, history.info(made).offset) == (0, 0)


# -- loose objects


@pytest.fixture
def place(tmp_path: Path) -> tuple[LooseObjects, Path, str]:
    repository = pygit2.init_repository(str(tmp_path / "git"), bare=True)
    oid = str(repository.write(ObjectType.BLOB, b"some words\n"))
    objects = tmp_path / "git" / "objects"
    return LooseObjects(objects), objects / oid[:2] / oid[2:], oid


def test_a_loose_object_is_read(place: tuple[LooseObjects, Path, str]) -> None:
    objects, _, oid = place
    assert objects.read(oid) == b"some words\n"


@pytest.mark.parametrize("oid", ["", "x", "..", "0" * 40, "pack", "../HEAD"])
def test_what_is_not_there_is_left_to_git(place: tuple[LooseObjects, Path, str], oid: str) -> None:
    assert place[0].read(oid) is None


@pytest.mark.parametrize(
    "damage",
    [b"", b"no zlib", zlib.compress(b"blob 11\0other words"), zlib.compress(b"blob 11\0some words\n")[:-3]],
    ids=["empty", "no zlib", "another object", "cut off"],
)
def test_what_is_damaged_is_told(place: tuple[LooseObjects, Path, str], damage: bytes) -> None:
    objects, file, oid = place
    file.chmod(0o644)
    file.write_bytes(damage)
    with pytest.raises(Corrupt, match=oid):
        objects.read(oid)


@pytest.mark.parametrize("level", [0, 9], ids=["large", "a bomb"])
def test_what_is_large_is_left_to_git(place: tuple[LooseObjects, Path, str], level: int) -> None:
    objects, file, oid = place
    file.chmod(0o644)
    file.write_bytes(zlib.compress(b"blob 9999999\0" + b"\0" * 9_999_999, level))
    assert objects.read(oid) is None


def test_a_history_reads_loose_damaged_and_packed_objects(tmp_path: Path) -> None:
    history = History.create(tmp_path / "history.git", tmp_path / "refs.lock")
    made = [history.write_commit(RootId(b"r" * 32), {}, f"{number}\n", ANA, ()) for number in range(2)]
    words = history.raw(made[0])
    file = tmp_path / "history.git" / "objects" / made[1][:2] / made[1][2:]
    file.chmod(0o644)
    whole = file.read_bytes()
    file.write_bytes(b"no zlib")
    with pytest.raises(Corrupt):
        history.raw(made[1])
    file.write_bytes(whole[:-4])  # git's library would wait for the rest for ever
    cut = tmp_path / "history.git/refs/heads/cut"
    cut.write_text(f"{made[1]}\n")
    for ask in (history.info, history.config, history.raw, lambda _: history.refs("refs/heads/")):
        with pytest.raises(Corrupt, match="cut off"):
            ask(made[1])
    cut.unlink()
    file.unlink()
    with pytest.raises(NotFound):
        history.raw(made[1])
    for number, commit in enumerate(made[:1]):
        history.move(f"refs/heads/b{number}", CommitId(commit), None, "x", ANA)
    subprocess.run(["git", "-C", tmp_path / "history.git", "-c", "safe.directory=*", "gc", "-q"], check=True)
    assert not (tmp_path / "history.git" / "objects" / made[0][:2] / made[0][2:]).exists()
    assert history.raw(made[0]) == words
    later = history.write_commit(RootId(b"s" * 32), {}, "in a directory that was not there\n", ANA, (made[0],))
    assert history.info(later).parents == (made[0],)
    history.close()
