"""Imports that remember the last one, and the same without a memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vcs.check import check
from vcs.history import Author
from vcs.ignore import Ignore, Patterns
from vcs.importcache import import_cache
from vcs.importer import import_directory
from vcs.importresult import ImportResult
from vcs.model import RootId
from vcs.store import Store

BRANCH = "refs/heads/main"


@contextmanager
def kept_store(path: Path) -> Iterator[Store]:
    """An empty store; what is in it at the end is whole."""
    with Store.create(path) as store:
        yield store
        assert check(store).problems == []


def small_tree(top: Path) -> Path:
    """A few files in a few directories, which have settled."""
    (top / "etc/deep/deeper").mkdir(parents=True)
    (top / "usr").mkdir()
    (top / "etc/passwd").write_text("root")
    (top / "etc/deep/file").write_text("deep")
    (top / "etc/deep/deeper/last").write_text("last")
    (top / "usr/tool").write_text("tool")
    settle(top)
    return top


def settle(top: Path) -> None:
    """Wait until the clock has left behind every change, so that the cache may rely on what it sees."""
    paths = [top, *(Path(place) / name for place, names, files in os.walk(top) for name in names + files)]
    deadline = time.monotonic() + 20
    while max(path.lstat().st_ctime_ns for path in paths) + 20_000_001 > time.time_ns():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def run(store: Store, top: Path, *, remember: bool = True, keep: bool = True, **options: Any) -> ImportResult:
    """Import with the cache, and leave the next one; commit, unless nobody collects garbage meanwhile."""
    with store.writing() as lease, import_cache(store, lease, top, rescan=not remember) as cache:
        with store.batch() as batch:
            result = import_directory(batch, top, cache=cache, **options)
        if keep:
            commit(store, result.root)
        cache.save(result.root)
    return result


def commit(store: Store, root: RootId) -> None:
    """Put a root on the branch."""
    author = Author("tester", "tester@localhost", int(time.time()))
    tip = store.history.target(BRANCH)
    made = store.add_commit(root, {}, "test\n", author, (tip,) if tip else ())
    store.history.move(BRANCH, made, tip, "test", author)


def fresh(store: Store, top: Path, **options: Any) -> RootId:
    """The root that an import without a cache makes."""
    with store.batch() as batch:
        return import_directory(batch, top, **options).root


def agree(store: Store, top: Path, **options: Any) -> ImportResult:
    """Import with the cache; what comes out must be what comes out without it."""
    expected = fresh(store, top, **options)
    result = run(store, top, keep=False, **options)
    assert result.root == expected
    return result


def ignoring(*patterns: str) -> Ignore:
    """Patterns of what an import leaves out."""
    return Ignore(Patterns([("here", pattern) for pattern in patterns]))


_opened: list[object] = []
_watching = False


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event == "open" and isinstance(arguments[2], int) and not arguments[2] & os.O_DIRECTORY:
        _opened.append(arguments[0])


sys.addaudithook(_hook)


@contextmanager
def opened_files() -> Iterator[list[object]]:
    """The names of the files of the tree that are opened meanwhile."""
    global _watching
    _opened.clear()
    _watching = True
    found: list[object] = []
    try:
        yield found
    finally:
        _watching = False
        found += [name for name in _opened if isinstance(name, bytes)]


def same_size_same_mtime(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"X" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
