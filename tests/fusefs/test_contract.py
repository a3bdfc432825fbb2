"""What every driver promises, one suite for all: the native one, libfuse, and libfuse for an ordinary user.

They differ in what docs/fuse.md names, and in nothing else. All looks are taken by an agent, with a deadline.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusefs import mounting
from fusefs.client import Service
from runtime.views import Driver, hide, show
from tests.fusefs import looking
from tests.fusefs.serving import commit, needs_fuse, until
from tests.support import rich_tree
from tests.support.agent import Agent
from tests.support.collecting import NOW, author
from tests.support.deadline import abort_below
from tests.support.ordinary_user import own
from tests.support.values import root
from vcs.collect.collection import collect
from vcs.errors import AlreadyExists, BadInput, Conflict
from vcs.importer import import_directory
from vcs.store import Store

pytestmark = needs_fuse

MANY = 100_000
CASES = ("native", "libfuse", "libfuse for an ordinary user")


@dataclass
class Shown:
    """A store, mounted."""

    agent: Agent
    store: Path
    point: Path
    source: Path
    """The directory that is `main`."""
    driver: Driver

    @property
    def main(self) -> Path:
        return self.point / "branches/main"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a store, and with what was imported into it. Not to be changed."""
    directory = tmp_path_factory.mktemp("contract")
    source = rich_tree.make(directory / "source")
    source.chmod(0o755)  # an ordinary user is to see most of it
    with Store.create(directory / "store") as store, store.writing():
        with store.batch() as batch:
            made = import_directory(batch, source).root
            many = root(batch, {"many": {f"{number:06}": b"" for number in range(MANY)}})
        for branch, what in (("main", made), ("many", many)):
            store.history.move(
                f"refs/heads/{branch}", store.add_commit(what, {}, branch, author()), None, "test", author()
            )
    return directory


@contextlib.contextmanager
def shown(prepared: Path, directory: Path, driver: Driver, *, nobody: bool = False) -> Iterator[Shown]:
    """A copy of a prepared store, mounted by an agent. Whatever happens, no mount and no process is left."""
    store, point = directory / "store", directory / "shown"
    shutil.copytree(prepared / "store", store)
    if nobody:
        own(directory)
    source = prepared / "source"
    agent = Agent(directory, nobody=nobody, reached=(prepared,))
    try:
        agent.call(show, store, point, driver)
        yield Shown(agent, store, point, source, driver)
        agent.call(hide, point)
        if driver == "native":
            agent.call(Service.stop, store)
        ended(store)
    finally:
        try:
            agent.close()
        finally:
            remove(directory)


def remove(directory: Path) -> None:
    """End all that serves a store below a directory, by force. A test that went well leaves nothing to end."""
    abort_below(directory)
    for mount in reversed(mounting.mounts()):
        if mount.point.startswith(os.fsencode(directory)):
            mounting.detach(Path(os.fsdecode(mount.point)))
    for pid in servers(directory / "store"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ended(store: Path) -> None:
    """Wait for the end of what served a store, after the unmount. A mount namespace that somebody made in between may
    have a copy of the mount, which is then cut off."""
    patient = time.monotonic() + 3

    def gone() -> bool:
        if servers(store) and time.monotonic() > patient:
            abort_below(store)
        return not servers(store)

    until(gone)


def servers(store: Path) -> list[int]:
    """Every process that was started to serve a store."""
    found = []
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, ValueError):
            arguments = Path(f"/proc/{int(entry)}/cmdline").read_bytes().split(b"\0")
            if b"--ready" in arguments and os.fsencode(store) in arguments:
                found.append(int(entry))
    return found


@pytest.fixture(scope="module", params=CASES)
def mounted(
    request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    driver, _, user = request.param.partition(" ")
    with shown(prepared, tmp_path_factory.mktemp(driver), driver, nobody=bool(user)) as made:
        yield made


# -- what is there


def test_it_is_what_was_imported(mounted: Shown) -> None:
    """As this very user sees it: the directory itself keeps the same secrets."""
    expected = mounted.agent.call(looking.survey, mounted.source)
    assert len(expected) > 50
    for _ in range(2):
        assert mounted.agent.call(looking.survey, mounted.main / ".") == expected


def test_reading_in_any_order(mounted: Shown) -> None:
    for name in ("large", "sparse"):
        expected = mounted.agent.call(looking.reads, mounted.source / name, 7)
        assert mounted.agent.call(looking.reads, mounted.main / name, 7) == expected


def test_holes(mounted: Shown) -> None:
    """libfuse has no LSEEK: the kernel says that all of a file is data."""
    native = mounted.driver == "native"
    for name in ("sparse", "hole", "hole-first", "small", "empty"):
        size = (mounted.source / name).stat().st_size
        expected = looking.runs(mounted.source / name) if native else [(0, size)][: bool(size)]
        assert mounted.agent.call(looking.runs, mounted.main / name) == expected, name


def test_errors(mounted: Shown) -> None:
    assert mounted.agent.call(looking.errors, mounted.main) == {
        "stat of nothing": "ENOENT",
        "stat of nothing in nothing": "ENOENT",
        "stat below a file": "ENOTDIR",
        "list a file": "ENOTDIR",
        "read a directory": "EISDIR",
        "a long name": "ENAMETOOLONG",
        "target of a file": "EINVAL",
        "an attribute that is not there": "ENODATA",
        "open a dangling link": "ENAMETOOLONG",
        "no root": "ENOENT",
        "no commit": "ENOENT",
    }


def test_nothing_can_be_written(mounted: Shown) -> None:
    found = mounted.agent.call(looking.writes, mounted.main)
    assert len(found) > 15
    assert set(found.values()) == {"EROFS"}, found


def test_the_file_system(mounted: Shown) -> None:
    flags = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
    for path in (mounted.point, mounted.main):
        assert mounted.agent.call(looking.file_system, path) == (flags, 255, 4096)


def test_a_directory_of_many_names(mounted: Shown) -> None:
    many = mounted.point / "branches/many/many"
    assert mounted.agent.call(looking.first_names, many, 3) == ["000000", "000001", "000002"]
    expected = [f"{number:06}" for number in range(MANY)]
    for _ in range(2):
        assert sorted(mounted.agent.call(os.listdir, many)) == expected
    assert mounted.agent.call(looking.readable, many / "099999") == b""


# -- what changes


def test_a_new_commit_appears(mounted: Shown) -> None:
    call, branches = mounted.agent.call, mounted.point / "branches"
    assert sorted(call(os.listdir, branches)) == ["main", "many"]
    assert call(looking.readable, branches / "new/deep/f") == "ENOENT"
    first = call(commit_to, mounted.store, {"f": b"1"}, "new/deep")
    assert call(looking.readable, branches / "new/deep/f") == b"1"
    before = call(os.readlink, branches / "new/deep")
    second = call(commit_to, mounted.store, {"f": b"2"}, "new/deep")
    assert call(looking.readable, branches / "new/deep/f") == b"2"
    assert call(os.readlink, branches / "new/deep") != before
    assert call(looking.readable, branches.parent / "commits" / first / "f") == b"1"
    assert {first, second} < set(call(os.listdir, branches.parent / "commits"))
    assert sorted(call(os.listdir, branches)) == ["main", "many", "new"]
    assert call(os.listdir, branches / "new") == ["deep"]
    call(delete, mounted.store, "new/deep")
    assert sorted(call(os.listdir, branches)) == ["main", "many"]
    until(lambda: call(looking.readable, branches / "new/deep/f") == "ENOENT")


def test_what_is_above_the_roots(mounted: Shown) -> None:
    """By each driver the same: times, containers, and words, which are new as soon as their commit is."""
    call, point = mounted.agent.call, mounted.point
    top = ["at", "branches", "commits", "containers", "tags", "trees"]
    assert sorted(call(os.listdir, point)) == [".treering", *top]
    own = ["README", "store", *(["lowers"] if mounted.driver == "native" else [])]
    assert sorted(call(os.listdir, point / ".treering")) == sorted([*own, *top[:-1]])
    assert call(os.listdir, point / "containers") == []
    words = point / ".treering/branches/words"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    for content in (b"1", b"2"):  # words of the same length, in the same second
        new = call(commit_to, mounted.store, {"f": content}, "words")
        assert new.encode() in call(looking.readable, words)
        assert call(looking.readable, point / "at" / at / "words/f") == content
    call(delete, mounted.store, "words")
    until(lambda: call(looking.readable, words) == "ENOENT")


def commit_to(store: Path, spec: dict[str, bytes], branch: str) -> str:
    with Store.open(store) as opened:
        return commit(opened, spec, branch)


def delete(store: Path, branch: str) -> None:
    with Store.open(store) as opened:
        opened.history.delete(f"refs/heads/{branch}")


# -- mounting


def test_where_something_is_shown_nothing_else_is(mounted: Shown) -> None:
    with pytest.raises(AlreadyExists):
        mounted.agent.call(show, mounted.store, mounted.point, mounted.driver)


def test_somebody_inside_keeps_it(mounted: Shown) -> None:
    inside = mounted.agent.call(os.open, mounted.point, os.O_PATH)
    with pytest.raises(Conflict, match="in use"):
        mounted.agent.call(hide, mounted.point)
    mounted.agent.call(os.close, inside)


def test_both_drivers_count_the_same(prepared: Path, tmp_path: Path) -> None:
    """st_ino, and d_ino of listings. Hard links have one number."""
    found = []
    for driver in ("native", "libfuse"):
        (tmp_path / driver).mkdir()
        with shown(prepared, tmp_path / driver, driver) as made:
            found.append(made.agent.call(looking.numbers, made.agent.call(os.path.realpath, made.main)))
    native, libfuse = found
    assert native == libfuse
    assert native["small"] == native["a-link"] == native["sticky/link"]
    assert len(set(native.values())) > 40


def test_damage_is_an_error_of_its_file_alone(prepared: Path, tmp_path: Path) -> None:
    bad, good = os.urandom(300_000), os.urandom(300_000)
    with Store.create(tmp_path / "store") as store:
        commit(store, {"bad": bad, "good": good})
    layer = next((tmp_path / "store/layers").iterdir())
    data = bytearray(layer.read_bytes())
    at = data.find(bad[100_000:100_100])
    assert at > 0, "random bytes are stored as they are"
    data[at] ^= 1
    layer.chmod(0o600)
    layer.write_bytes(data)
    for driver in ("native", "libfuse"):
        (tmp_path / driver).mkdir()
        with shown(tmp_path, tmp_path / driver, driver) as made:
            for _ in range(2):
                assert made.agent.call(looking.readable, made.main / "bad") == "EIO"
            assert made.agent.call(looking.readable, made.main / "good") == good
            log = (made.store / "run/service.log").read_text()
            assert log.count(f"layer={layer.stem}") == 1


# -- libfuse's own process


@pytest.fixture
def libfuse(prepared: Path, tmp_path: Path) -> Iterator[Shown]:
    with shown(prepared, tmp_path, "libfuse") as made:
        yield made


def test_gc_keeps_what_was_looked_at(libfuse: Shown) -> None:
    """Also what of it was not read yet, and when no branch names it any more; until it is unmounted."""
    call = libfuse.agent.call
    for branch in ("read", "other"):
        spec = {"one": os.urandom(100_000), "two": branch.encode() * 20_000}
        call(commit_to, libfuse.store, spec, branch)
    links = [call(os.readlink, libfuse.point / "branches" / branch) for branch in ("read", "other")]
    read, other = (libfuse.point / "trees" / os.path.basename(link) for link in links)
    assert len(call(looking.readable, read / "one")) == 100_000
    for branch in ("read", "other"):
        call(delete, libfuse.store, branch)
    assert gc(libfuse.store) > 0
    assert call(looking.readable, read / "two") == b"read" * 20_000
    assert call(looking.readable, other / "two") == "ENOENT"
    call(hide, libfuse.point)
    ended(libfuse.store)
    assert gc(libfuse.store) > 0
    call(show, libfuse.store, libfuse.point, "libfuse")
    assert call(looking.readable, read / "two") == "ENOENT"


def gc(store: Path) -> int:
    with Store.open(store) as opened:
        return collect(opened, since=NOW).objects


def test_killed_it_can_be_taken_away_and_shown_again(libfuse: Shown) -> None:
    call = libfuse.agent.call
    (pid,) = servers(libfuse.store)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not servers(libfuse.store))
    # ECONNABORTED at first: the process is dead, and its connection about to be.
    until(lambda: call(looking.readable, libfuse.main / "small") == "ENOTCONN")
    with pytest.raises(AlreadyExists):
        call(show, libfuse.store, libfuse.point, "libfuse")
    call(hide, libfuse.point)
    call(show, libfuse.store, libfuse.point, "libfuse")
    assert call(looking.readable, libfuse.main / "small") == b"text\n"


def test_told_to_end_it_unmounts(libfuse: Shown) -> None:
    (pid,) = servers(libfuse.store)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not servers(libfuse.store))
    assert mounting.mount_at(libfuse.point) is None
    libfuse.agent.call(show, libfuse.store, libfuse.point, "libfuse")


def test_the_directory_must_be_empty(libfuse: Shown, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(BadInput, match="not empty"):
        libfuse.agent.call(show, libfuse.store, tmp_path / "full", "libfuse")


def test_a_comma_in_the_path(prepared: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a, b\\ü\udcff=c"
    odd.mkdir()
    with shown(prepared, odd, "libfuse") as made:
        assert made.agent.call(looking.readable, made.main / "small") == b"text\n"
        found = mounting.mount_at(made.point)
        assert found is not None
        assert found.source == b"treering:" + os.fsencode(made.store)
