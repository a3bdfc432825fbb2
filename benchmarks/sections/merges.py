"""Branches brought together, and packages compared, through the Python API; git merges the same files."""

from __future__ import annotations

import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pygit2
from msgspec import structs

from benchmarks.measure import FailedError, in_turns, median
from benchmarks.peers.versions import Git
from benchmarks.report import Section
from benchmarks.setting import OURS, Setting
from runtime.branches.merging import Wish, merge
from runtime.packages import changes
from vcs.blobs import put_data
from vcs.gitwords import BRANCHES
from vcs.history import Author
from vcs.importer import import_directory
from vcs.merging.edits import edited
from vcs.model import CommitId, Data
from vcs.store import Store
from vcs.texts import is_binary
from vcs.trees import write_root

_FILES, _QUICK = 3_000, 60
"""Changed by each side."""
_BOTH = 10
"""One of so many is changed by both, in other lines."""
_LIMITS = {"merge": 1000.0, "packages": 150.0}
"""Milliseconds."""
_AT = "usr"
_LARGEST = 1 << 16
_STATUS = b"/var/lib/dpkg/status"
_MERGE, _TEXTS, _PACKAGES = "merge, other files", "merge, some files in common", "packages between two commits"
_ME = Author("Benchmark", "benchmark@localhost", 1_700_000_000)

Side = Mapping[str, bytes]
"""What one side makes of some files, by their paths below `_AT`."""


def merges(setting: Setting) -> list[Section]:
    """One table."""
    count = _QUICK if setting.quick else _FILES
    section = Section(f"Two branches with {count:,} changed files each, merged (API)", "what")
    debian = setting.debian()
    ours, apart, common = _sides(debian / _AT, count)
    place, repository = setting.place("merges"), setting.place("merges.git")
    with Store.create(place) as store:
        _fill(store, debian, {"ours": ours, "apart": apart, "common": common})
    _fill_git(repository, debian, {"ours": ours, "apart": apart, "common": common})
    work: dict[tuple[str, str], Callable[[int], float]] = {
        (_MERGE, OURS): partial(_merge, place, "apart"),
        (_TEXTS, OURS): partial(_merge, place, "common"),
        (_MERGE, "git"): partial(_merge_with_git, repository, "apart"),
        (_TEXTS, "git"): partial(_merge_with_git, repository, "common"),
        (_PACKAGES, OURS): partial(_compare_packages, place),
    }
    found = in_turns(max(setting.rounds, 3), {f"{row}\n{who}": do for (row, who), do in work.items()})
    for what, seconds in found.items():
        row, who = what.split("\n")
        section.put(row, who, median(seconds) * 1e3, "ms")
    for row, limit in ((_MERGE, "merge"), (_TEXTS, "merge"), (_PACKAGES, "packages")):
        section.claim("14", row, section.rows[row][OURS].value, _LIMITS[limit], "ms")
    section.note(
        f"The files lie below /{_AT} in a Debian root; with some in common, both sides changed one of {_BOTH}: it "
        "has a new first and a new last line. Ours ends with a commit on a branch, flushed to the disk; git's is "
        "`merge-tree --write-tree`, which writes a tree and no commit, of these files alone. Packages: two came, one "
        "was upgraded."
    )
    return [section]


def _sides(top: Path, count: int) -> tuple[Side, Side, Side]:
    """What one side does; what another does to other files; the same, but to some of the first one's."""
    texts, others = _files(top)
    both = count // _BOTH
    names = [*texts[:both], *sorted([*texts[both:], *others], key=lambda name: name[::-1])]
    if len(names) < 2 * count:
        raise FailedError(f"there are not enough files in {top}")
    begun = {name: b"# ours\n" + (top / name).read_bytes() for name in names[:count]}
    ended = {name: (top / name).read_bytes() + b"# theirs\n" for name in names[:both] + names[count : 2 * count]}
    return begun, dict(list(ended.items())[both:]), dict(list(ended.items())[:count])


def _files(top: Path) -> tuple[list[str], list[str]]:
    """Texts of several lines, and other small files, in an order that has nothing to do with where they lie."""
    texts: list[str] = []
    others: list[str] = []
    for path in top.rglob("*"):
        status = path.lstat()
        is_one = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if not is_one or status.st_size > _LARGEST or not str(path).isascii():
            continue
        data = path.read_bytes()
        is_text = not is_binary(data) and data.count(b"\n") > 8
        (texts if is_text else others).append(str(path.relative_to(top)))
    return sorted(texts, key=lambda name: name[::-1]), others


def _fill(store: Store, source: Path, sides: Mapping[str, Side]) -> None:
    with store.writing():
        with store.batch() as batch:
            base = store.add_commit(import_directory(batch, source).root, {"config": {}}, "base\n", _ME, ())
        for name, side in sides.items():
            _commit(store, base, name, {f"/{_AT}/{path}".encode(): data for path, data in side.items()})
        status = (source / _STATUS.decode().lstrip("/")).read_bytes()
        stanza = b"\nPackage: %s\nStatus: install ok installed\nVersion: 1\nArchitecture: all\nInstalled-Size: 1\n"
        more = status.replace(b"\nVersion: ", b"\nVersion: 9:", 1) + stanza % b"one" + stanza % b"two"
        _commit(store, base, "base", {})
        _commit(store, base, "packages", {_STATUS: more})


def _commit(store: Store, base: CommitId, branch: str, files: Mapping[bytes, bytes]) -> None:
    before = store.snapshot_of(base)
    with store.batch() as batch:
        edits = {}
        for path, data in files.items():
            entry = before.lookup(path)
            assert isinstance(entry.content, Data)
            edits[path] = structs.replace(entry, content=put_data(batch, data))
        root = write_root(batch, edited(store, batch, before.root, edits))
    commit = store.add_commit(root, {"config": {}}, f"{branch}\n", _ME, (base,))
    store.history.move(BRANCHES + branch, commit, None, "benchmark", _ME)


def _fill_git(repository: Path, source: Path, sides: Mapping[str, Side]) -> None:
    git = Git()
    git.prepare(repository)
    git.save(repository, source / _AT, "base")
    opened = pygit2.Repository(str(repository))
    base = opened.revparse_single("base").peel(pygit2.Commit)
    who = pygit2.Signature(_ME.name, _ME.email, _ME.time)
    for name, side in sides.items():
        index = pygit2.Index()
        index.read_tree(base.tree)
        for path, data in side.items():
            index.add(pygit2.IndexEntry(path, opened.create_blob(data), index[path].mode))
        tree = index.write_tree(opened)
        opened.create_commit(f"refs/heads/{name}", who, who, name, tree, [base.id])
    opened.free()


def _merge(place: Path, other: str, _: int) -> float:
    with Store.open(place) as store:
        theirs = store.history.target(BRANCHES + other)
        before = store.history.target(BRANCHES + "ours")
        assert theirs
        assert before
        started = time.perf_counter()
        outcome = merge(store, theirs, f"branch {other!r}", Wish("ours"), _ME)
        seconds = time.perf_counter() - started
        if outcome.how != "merged" or outcome.conflicts:
            raise FailedError(f"the merge ended as {outcome.how}")
        store.history.move(BRANCHES + "ours", before, outcome.commit, "benchmark", _ME)
        return seconds


def _merge_with_git(repository: Path, other: str, _: int) -> float:
    words = ["git", f"--git-dir={repository}", "-c", "safe.directory=*", "merge-tree", "--write-tree", "ours", other]
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def _compare_packages(place: Path, _: int) -> float:
    with Store.open(place) as store:
        old, new = (store.snapshot_of(store.history.resolve(name)) for name in ("base", "packages"))
        started = time.perf_counter()
        found = changes(old, new)
        seconds = time.perf_counter() - started
        if (len(found.added), len(found.changed)) != (2, 1):
            raise FailedError(f"the packages that differ are {found}")
        return seconds
