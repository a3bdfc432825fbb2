"""Commits, branches, tags and reflogs: a repository that stock git agrees with."""

import multiprocessing
import os
import subprocess
from pathlib import Path

import pytest

from vcs.errors import AlreadyExists, BadInput, Conflict, Corrupt, InvalidName, NotFound
from vcs.history import BRANCHES, TAGS, Author, History
from vcs.model import CommitId, RootId
from vcs.reflogs import without_seal

MAIN = BRANCHES + "main"
ANA = Author("Ana", "ana@example.org", 1_700_000_000, -330)
CONFIG = {"config": {"Cmd": ["sh"], "Env": ["A=ü"]}}


def root(number: int) -> RootId:
    return RootId(bytes([number]) * 32)


@pytest.fixture
def history(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = History.create(tmp_path / "history.git", tmp_path / "refs.lock")
    yield made
    made.close()
    assert git(tmp_path, "fsck", "--strict", "--no-dangling") == ""


def git(tmp_path: Path, *words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", tmp_path / "history.git", *words],
        check=True, capture_output=True, text=True, env=environment,
    ).stdout  # fmt: skip


def add(history: History, number: int, *parents: CommitId, message: str = "") -> CommitId:
    return history.write_commit(root(number), CONFIG, message or f"commit {number}\n", ANA, parents)


def grow(history: History, count: int, ref: str = MAIN) -> list[CommitId]:
    made: list[CommitId] = []
    for number in range(count):
        old = made[-1] if made else None
        made.append(add(history, number, *made[-1:]))
        history.move(ref, made[-1], old, f"step {number}", ANA)
    return made


def test_a_commit_says_what_it_was_told(history: History) -> None:
    first = add(history, 1)
    second = add(history, 2, first, message="Zweiter\n\nwith a body\n\nContainer: web\n")
    info = history.info(second)
    assert (info.id, info.root, info.parents) == (second, root(2), (first,))
    assert (info.message, info.author, info.email) == ("Zweiter\n\nwith a body\n\nContainer: web\n", "Ana", ANA.email)
    assert (info.time, info.offset) == (ANA.time, ANA.offset)
    assert history.config(second) == CONFIG


def test_git_reads_it(history: History, tmp_path: Path) -> None:
    made = grow(history, 3)
    history.tag("v1", made[1], "the first\n", ANA)
    assert git(tmp_path, "log", "--format=%H %s %an %ai", "main").splitlines()[0] == (
        f"{made[2]} commit 2 Ana 2023-11-14 16:43:20 -0530"
    )
    assert "root" in git(tmp_path, "log", "--stat", "main")
    assert git(tmp_path, "show", "main:root") == root(2).hex() + "\n"
    assert "A=ü" in git(tmp_path, "show", "main:config.json")
    assert git(tmp_path, "rev-parse", "v1^{commit}").strip() == made[1]
    assert git(tmp_path, "symbolic-ref", "HEAD").strip() == MAIN
    assert [without_seal(line) for line in git(tmp_path, "reflog", "--format=%gs", "main").encode().splitlines()] == [
        b"step 2", b"step 1", b"step 0"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("revision", "position"),
    [
        ("main", 4),
        ("main~1", 3),
        ("main^^", 2),
        ("HEAD", 4),
        ("main@{1}", 3),
        ("v1", 1),
        ("v2", 2),
        ("refs/heads/main", 4),
    ],
)
def test_revisions_are_gits(history: History, revision: str, position: int) -> None:
    made = grow(history, 5)
    history.tag("v1", made[1], None, ANA)
    history.tag("v2", made[2], "annotated", ANA)
    assert history.resolve(revision) == made[position]
    assert history.resolve(made[position][:12]) == made[position]


@pytest.mark.parametrize(
    "revision", ["nothing", "main~9", "0" * 40, "", "main:root", "..", "a b", "main@{99}", "\0", "-x"]
)
def test_what_is_no_revision(history: History, revision: str) -> None:
    grow(history, 2)
    with pytest.raises(NotFound, match="no revision"):
        history.resolve(revision)


def test_a_branch_moves_only_from_where_it_was_expected(history: History) -> None:
    first, second, third = grow(history, 3)
    for expected in (None, first, second):
        with pytest.raises(Conflict) as caught:
            history.move(MAIN, first, expected, "stale", ANA)
        assert caught.value.facts == {"ref": MAIN, "expected": expected, "found": third}
    with pytest.raises(Conflict, match="is gone"):
        history.move(BRANCHES + "other", first, second, "stale", ANA)
    assert history.target(MAIN) == third
    history.move(MAIN, first, None, "forced", ANA, force=True)
    assert history.target(MAIN) == first
    assert [change.message for change in history.reflog(MAIN)][:2] == ["forced", "step 2"]


@pytest.mark.parametrize("name", ["other", "a b", "caf\u00e9", "\udce9", "\udcedain"])
def test_a_branch_that_is_not_there_has_no_target(history: History, name: str) -> None:
    """libgit2's words quote the name, and Python cannot always read them."""
    assert history.target(BRANCHES + name) is None


@pytest.mark.parametrize(
    "name", ["a b", "a..b", "a~1", "a^", "x.lock", ".x", "a//b", "a/", "@{", "a\\b", "", "a\nb", "é:"]
)
def test_names_that_git_refuses_are_refused(history: History, name: str) -> None:
    (first,) = grow(history, 1)
    with pytest.raises(InvalidName):
        history.move(BRANCHES + name, first, None, "x", ANA)
    with pytest.raises(InvalidName):
        history.tag(name, first, None, ANA)


def test_a_tag_is_made_once_unless_forced(history: History) -> None:
    first, second = grow(history, 2)
    for message in (None, "note"):
        name = f"t-{message}"
        history.tag(name, first, message, ANA)
        with pytest.raises(AlreadyExists):
            history.tag(name, second, message, ANA)
        assert history.refs(TAGS)[name] == first
        history.tag(name, second, message, ANA, force=True)
        assert history.refs(TAGS)[name] == second


def test_a_deleted_ref_is_gone(history: History) -> None:
    first, second = grow(history, 2)
    history.move(BRANCHES + "a/b/c", first, None, "x", ANA)
    assert history.delete(BRANCHES + "a/b/c") == first
    with pytest.raises(NotFound):
        history.delete(BRANCHES + "a/b/c")
    history.move(BRANCHES + "a", second, None, "x", ANA)
    assert history.refs(BRANCHES) == {"a": second, "main": second}


def test_a_branch_below_another_is_one_clear_error(history: History) -> None:
    (first,) = grow(history, 1)
    history.move(BRANCHES + "a/b", first, None, "x", ANA)
    for name, other in (("main/sub", "main"), ("main/sub/x", "main"), ("a", "a/b"), ("a/b/c", "a/b")):
        with pytest.raises(AlreadyExists, match=f"branch '{other}' exists"):
            history.move(BRANCHES + name, first, None, "x", ANA)
    history.move(BRANCHES + "mainly", first, None, "x", ANA)


def test_the_reflog_tells_every_move_newest_first(history: History) -> None:
    made = grow(history, 4)
    found = history.reflog(MAIN)
    assert [(change.index, change.old, change.new) for change in found] == [
        (0, made[2], made[3]), (1, made[1], made[2]), (2, made[0], made[1]), (3, None, made[0])
    ]  # fmt: skip
    assert {change.who for change in found} == {"Ana"}
    with pytest.raises(NotFound):
        history.reflog(BRANCHES + "none")


def test_a_log_is_newest_first_and_children_before_parents(history: History) -> None:
    made = grow(history, 5)
    side = add(history, 9, made[1])
    merge = add(history, 10, made[4], side)
    assert next(history.log([merge])).id == merge
    assert {info.id for info in history.log([merge])} == {*made, side, merge}
    assert [info.id for info in history.log([made[4]], limit=2)] == [made[4], made[3]]
    assert list(history.log([])) == []
    assert history.is_ancestor(made[1], side)
    assert history.is_ancestor(side, side)
    assert not history.is_ancestor(side, made[4])


@pytest.mark.parametrize("name", ["", "<>", "a\nb", "a\0b", "  x  ", "名前"])
def test_any_author_can_commit(history: History, name: str) -> None:
    made = history.write_commit(root(1), CONFIG, "x\n", Author(name, name, 0), ())
    history.move(MAIN, made, None, "x", Author(name, name, 0))
    assert history.info(made).author
    history.tag("t", made, "by them", Author(name, name, 0))


def test_a_message_with_nul_is_refused(history: History) -> None:
    with pytest.raises(BadInput):
        add(history, 1, message="a\0b")


@pytest.mark.parametrize("commit", ["", "x", "0" * 40, "f" * 39])
def test_a_commit_that_is_not_there(history: History, commit: str) -> None:
    with pytest.raises(NotFound):
        history.info(commit)


def test_a_commit_of_somebody_elses_is_named_as_damaged(history: History, tmp_path: Path) -> None:
    tree = git(tmp_path, "hash-object", "-t", "tree", "-w", "/dev/null").strip()
    environment = {
        **os.environ,
        **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    made = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", tmp_path / "history.git", "commit-tree", tree, "-m", "foreign"],
        check=True, capture_output=True, text=True, env=environment,
    ).stdout.strip()  # fmt: skip
    for read in (history.info, history.config):
        with pytest.raises(Exception, match=made) as caught:
            read(made)
        assert type(caught.value).__name__ in ("Missing", "Corrupt")


@pytest.mark.parametrize("text", ["", "zz" * 32, "00" * 31, "00" * 33])
def test_a_root_that_is_none_is_corrupt(history: History, text: str) -> None:
    class Odd(bytes):
        def hex(self, *_: object) -> str:
            return text

    made = history.write_commit(RootId(Odd(32)), CONFIG, "x\n", ANA, ())
    with pytest.raises(Corrupt, match="no valid root"):
        history.info(made)


def test_the_lock_of_a_killed_process_is_no_obstacle(history: History, tmp_path: Path) -> None:
    first, second = grow(history, 2)
    for stale in ("refs/heads/main.lock", "HEAD.lock"):
        (tmp_path / "history.git" / stale).touch()
    third = add(history, 3, second)
    history.move(MAIN, third, second, "after a crash", ANA)
    (tmp_path / "history.git" / "refs/heads/new.lock").touch()
    history.move(BRANCHES + "new", first, None, "after a crash", ANA)
    assert history.refs(BRANCHES) == {"main": third, "new": first}


def _contend(tmp_path: Path, number: int, wins: "multiprocessing.Queue[tuple[int, str]]") -> None:
    history = History(tmp_path / "history.git", tmp_path / "refs.lock")
    for turn in range(10):
        while True:
            old = history.target(MAIN)
            made = add(history, number * 10 + turn, *([old] if old else []), message=f"{number} {turn}\n")
            try:
                history.move(MAIN, made, old, f"{number}", ANA)
            except Conflict:
                continue
            wins.put((number, made))
            break
    history.close()


def test_processes_that_race_for_a_branch_lose_no_commit(history: History, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    wins = context.Queue()
    racers = [context.Process(target=_contend, args=(tmp_path, number, wins)) for number in range(3)]
    for racer in racers:
        racer.start()
    won = {wins.get(timeout=60)[1] for _ in range(30)}
    for racer in racers:
        racer.join(60)
        assert racer.exitcode == 0
    assert {info.id for info in history.log([history.resolve("main")])} == won
    assert len(history.reflog(MAIN)) == 30


def test_listing_some_refs_looks_at_no_other(history: History, tmp_path: Path) -> None:
    """Of ten thousand removed containers, say, whoever lists branches reads nothing."""
    (commit,) = grow(history, 1)
    removed = tmp_path / "history.git/refs/removed/one"
    removed.parent.mkdir()
    removed.write_text("no id\n")
    assert history.refs(BRANCHES) == {"main": commit}
    with pytest.raises(Corrupt, match="refs/removed/one"):
        history.refs("refs/removed/")
    removed.write_text("1" * 40 + "\n")
    assert history.refs(BRANCHES) == {"main": commit}
    with pytest.raises(Corrupt, match="1111, which is not there"):
        history.refs("refs/")
    removed.unlink()


def test_deleted_refs_leave_no_directories(history: History, tmp_path: Path) -> None:
    """Every container has a directory of refs; thousands of `run --rm` must not pile up empty ones."""
    commit = add(history, 1)
    for name in ("a/b/0", "a/b/1", "a/c/0"):
        history.move(f"refs/containers/{name}", commit, None, "made", ANA)
    history.delete("refs/containers/a/b/0")
    assert history.target("refs/containers/a/b/1") == commit
    history.delete("refs/containers/a/b/1")
    assert history.target("refs/containers/a/c/0") == commit
    assert sorted(path.name for path in (tmp_path / "history.git/refs/containers/a").iterdir()) == ["c"]
    history.delete("refs/containers/a/c/0")
    for top in ("refs", "logs/refs"):
        assert not list((tmp_path / "history.git" / top).glob("containers/*"))
    history.move("refs/containers/a/b/0", commit, None, "made again", ANA)


def test_many_refs_at_once(history: History, tmp_path: Path) -> None:
    """They are lines of packed-refs, which git reads as its own, beside those that git packed there."""
    first, second = grow(history, 2)
    history.tag("v1", first, "annotated", ANA)
    history.tag("plain", first, None, ANA)
    git(tmp_path, "pack-refs", "--all")
    refs = {f"refs/containers/{name}/0": first for name in ("b", "a", "c")}
    history.name_all(refs, "made", ANA)
    everything = {"refs/heads/main", "refs/tags/plain", "refs/tags/v1", *refs}
    assert set(git(tmp_path, "for-each-ref", "--format=%(refname)").split()) == everything
    assert git(tmp_path, "rev-parse", "v1^{}", "main", "refs/containers/a/0").split() == [first, second, first]
    assert {history.target(ref) for ref in refs} == {first}
    with pytest.raises(AlreadyExists):
        history.name_all({"refs/containers/d/0": first, "refs/containers/a/0": second}, "made", ANA)
    with pytest.raises(NotFound):
        history.name_all({"refs/containers/d/0": CommitId("1" * 40)}, "made", ANA)
    assert history.target("refs/containers/d/0") is None

    history.move("refs/containers/a/0", second, first, "moved", ANA)
    log = history.reflog("refs/containers/a/0")
    assert [(change.old, change.new, change.message) for change in log] == [
        (first, second, "moved"),
        (None, first, "made"),
    ]
    assert git(tmp_path, "rev-parse", "refs/containers/a/0@{1}").strip() == first
    history.delete_all([*refs, "refs/containers/none/0", "refs/tags/v1"])
    assert set(git(tmp_path, "for-each-ref", "--format=%(refname)").split()) == {"refs/heads/main", "refs/tags/plain"}
    assert history.target("refs/containers/a/0") is None
    for top in ("refs", "logs/refs"):
        assert not list((tmp_path / "history.git" / top).glob("containers/*"))
    history.move("refs/containers/a/0", first, None, "made again", ANA)


def test_many_refs_at_once_where_git_has_packed_none(history: History, tmp_path: Path) -> None:
    first, *_ = grow(history, 1)
    refs = {f"refs/containers/{number}/0": first for number in range(500)}
    history.name_all(refs, "made", ANA)
    assert len(git(tmp_path, "for-each-ref").splitlines()) == 501
    history.delete_all(list(refs)[:499])
    history.name_all({"refs/containers/0/0": first}, "again", ANA)
    found = git(tmp_path, "for-each-ref", "--format=%(refname)").split()
    assert found == ["refs/containers/0/0", "refs/containers/499/0", "refs/heads/main"]


def test_merge_base(history: History) -> None:
    base, *_ = grow(history, 1)
    one, two = add(history, 1, base), add(history, 2, base)
    three = add(history, 3, two)
    assert history.merge_base([one, three]) == base
    assert history.merge_base([two, three, three]) == two
    assert history.merge_base([one, two, three]) == base
    assert history.merge_base([one]) == one
    assert history.merge_base([one, add(history, 4)]) is None


def test_an_annotated_tag_is_not_made_of_a_commit_that_is_gone(history: History) -> None:
    """gc may remove a commit between being named and being tagged; a tag of it would lead nowhere."""
    (made,) = grow(history, 1)
    gone = CommitId("1" * 40)
    for message in (None, "annotated"):
        with pytest.raises(NotFound):
            history.tag("v1", gone, message, ANA)
        assert history.target(TAGS + "v1") is None
    history.tag("v1", made, "annotated", ANA)
    with pytest.raises(NotFound):
        history.tag("v1", gone, "annotated", ANA, force=True)
    assert history.refs(TAGS) == {"v1": made}
