"""Moves that a killed undo has written down: whoever comes next makes all of them, or is told why that cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.operations import AUTHOR, MAIN, WORK, add, do, refs, undo
from vcs import operations, takingback
from vcs.store import Store


class _KilledError(BaseException):
    pass


@pytest.fixture
def before(store: Store, monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Refs as they are to be when an undo is done that was killed before its first move."""
    one, two = add(store, 1), add(store, 2)
    do(store, "make")
    store.history.name_all({MAIN: one, WORK: one}, "made", AUTHOR)
    found = refs(store)
    do(store, "change")
    for ref in (MAIN, WORK):
        store.history.move(ref, two, one, "moved", AUTHOR)
    with monkeypatch.context() as patched:
        patched.setattr(takingback, "_make_all", _killed)
        with pytest.raises(_KilledError):
            undo(store)
    assert store.operations.moves.exists()
    store.operations._dirty = False  # what a process remembers goes with it
    return found


def _killed(*_: object) -> None:
    raise _KilledError


def unreadable(path: Path, number: int) -> Callable[[Path], bytes]:
    read = Path.read_bytes

    def failing(self: Path) -> bytes:
        if self == path:
            raise OSError(number, os.strerror(number), str(self))
        return read(self)

    return failing


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_what_says_nothing_of_permission_keeps_others_from_going_on(
    store: Store, before: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with Store.open(store.path) as again:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", unreadable(store.operations.moves, number))
            with pytest.raises(OSError, match=os.strerror(number)):
                _ = again.history
        assert refs(again) == before
    assert not store.operations.moves.exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_who_cannot_write_leaves_them_to_others(
    store: Store, before: dict[str, str | None], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with Store.open(store.path) as reader:
        with monkeypatch.context() as patched:
            patched.setattr(Path, "read_bytes", unreadable(store.operations.moves, number))
            assert refs(reader) != before
        assert store.operations.moves.exists()
    with Store.open(store.path) as again:
        assert refs(again) == before


def test_the_list_goes_only_when_the_line_is_durable(
    store: Store, before: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is another process's, which was killed before it was synced."""
    sync = os.fsync
    synced = []

    def fsync(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        if path == store.operations.path:
            synced.append(path)
            if len(synced) == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(file)

    monkeypatch.setattr(operations.os, "fsync", fsync)  # type: ignore[attr-defined]
    with Store.open(store.path) as again, pytest.raises(OSError, match="Input/output"):
        _ = again.history
    assert len(synced) == 1
    assert store.operations.moves.exists()
    with Store.open(store.path) as again:
        assert refs(again) == before
    assert len(synced) == 2
    assert not store.operations.moves.exists()


def test_a_log_that_cannot_be_synced_is_no_error_of_a_command(
    store: Store, before: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Store.open(store.path) as again:
        do(again, "make")
        again.history.move(WORK + "-2", add(again, 3), None, "made", AUTHOR)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            again.operations.flush()
    assert before.items() <= refs(store).items()
