"""Commands on a store's refs that are noted, taken back and done again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.collecting import noise, write
from tests.support.killing import killed_anywhere
from vcs.history import BRANCHES, Author
from vcs.model import CommitId
from vcs.operationlines import Operation
from vcs.reflogs import lines_of
from vcs.store import Store
from vcs.takingback import deleters, inverse, move_all, next_redo, next_undo

AUTHOR = Author("tester", "tester@localhost", 1_800_000_000)
MAIN, WORK = BRANCHES + "main", BRANCHES + "work"


def add(store: Store, number: int, *parents: CommitId) -> CommitId:
    root = write(store, {"noise": noise(number, 500)})
    return store.add_commit(root, {}, f"commit {number}\n", AUTHOR, parents)


def reflogs_of(store: Store) -> dict[str, list[bytes]]:
    """Every reflog, by the name of its ref."""
    top = store.repository / "logs"
    return {str(path.relative_to(top)): lines_of(path) for path in top.rglob("*") if path.is_file()}


def do(store: Store, *args: str) -> None:
    """Begin an operation, as a command does."""
    store.operations.begin(args, lambda: AUTHOR)


def undo(store: Store) -> Operation:
    return take_back(store, next_undo(store.operations), "undo")


def redo(store: Store) -> Operation:
    return take_back(store, next_redo(store.operations), "redo")


def take_back(store: Store, one: Operation, kind: str) -> Operation:
    store.operations.begin([kind], lambda: AUTHOR, kind, one.id)  # type: ignore[arg-type]
    move_all(
        store.history, store.operations, inverse(one.refs), f"{kind} {one.id}", AUTHOR, one.unsure,
        deleted=deleters([one]),
    )  # fmt: skip
    with store.history.locked():
        store.operations.note_end(AUTHOR)
    return one


def refs(store: Store) -> dict[str, str | None]:
    return {f"refs/{name}": store.history.target(f"refs/{name}") for name in store.history.refs("refs/")}


def make_some(store: Store, count: int) -> None:
    one = add(store, 1)
    for number in range(count):
        do(store, "branch", f"b{number}")
        store.history.move(f"{BRANCHES}b{number}", one, None, "made", AUTHOR)


def after_each_kill_of_undo(path: Path, errors: Path) -> Iterator[Store]:
    """Kill an undo at each of its calls, and open the store after it."""

    def work(arm: Callable[[], None]) -> None:
        with Store.open(path) as store:
            store.history.refs(BRANCHES)
            arm()
            undo(store)

    for _ in killed_anywhere(work, errors):
        with Store.open(path) as store:
            yield store
