"""What fails for want of descriptors, memory or space is told: it is not taken for something that is not there."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime import devices, execution, idmapping, preparation
from runtime.building.dockerignore import ContextIgnore, Rules, read_rules
from runtime.containers import Containers
from runtime.copying import target, trees
from runtime.copying.item import Copied
from runtime.copying.target import Owners, Target, strictly
from runtime.copying.trees import Tree
from runtime.execution import Execution, execute_detached
from runtime.images.layout import DirectoryFiles
from runtime.settings import Settings
from runtime.stubs import Stub, load_stubs, save_stubs
from runtime.supervision import launch
from runtime.supervision.attachments import Peer
from runtime.system import mounts
from runtime.system.rootaccess import Root
from runtime.upper import watch
from runtime.upper.unfinished import noted, remove_unfinished
from tests.runtime.test_seen import no_more_descriptors
from tests.support.faults import Fault
from tests.support.watched import waiting_job
from vcs.errors import AlreadyExists, BadInput, Corrupt, EngineError
from vcs.history import Author
from vcs.model import EMPTY_FILE, Entry
from vcs.store import Store
from vcs.trees import write_root, write_tree

ANA = Author("Ana", "ana@example.org", 1_700_000_000)
TOO_MANY = os.strerror(errno.EMFILE)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def refused(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# What a killed copy left


def left(generation: Path) -> Path:
    """A second name, and the note that says how it begins."""
    name = generation / "upper/.treering-0123456789abcdef-1"
    name.parent.mkdir()
    name.touch()
    (generation / "copying").write_bytes(b".treering-0123456789abcdef-")
    return name


def test_what_a_killed_copy_left_is_not_overlooked(tmp_path: Path) -> None:
    name = left(tmp_path)
    with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
        remove_unfinished(tmp_path)
    assert name.exists()
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["upper"]
    assert not name.exists()
    remove_unfinished(tmp_path)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOLCK])
def test_a_note_that_cannot_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    name = left(tmp_path)
    monkeypatch.setattr(fcntl, "flock", refused(number))
    with pytest.raises(OSError, match=os.strerror(number)):
        remove_unfinished(tmp_path)
    assert name.exists()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_where_nothing_may_be_written_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    name = left(tmp_path)
    monkeypatch.setattr(os, "unlink", refused(number))
    remove_unfinished(tmp_path)
    assert name.exists()


def test_a_note_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may take less than it is given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with noted(tmp_path) as begin:
        assert (tmp_path / "copying").read_bytes() == begin


# What a build leaves out


def test_what_is_taken_in_again_is_not_overlooked(tmp_path: Path) -> None:
    (tmp_path / "src/keep").mkdir(parents=True)
    (tmp_path / "src/keep/x").touch()
    ignore = ContextIgnore(rules=Rules(["src", "!src/keep/x"]), wanted=("",), top=os.fsencode(tmp_path))
    with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
        ignore.leaves_out(b"/src", True)
    assert not ignore.leaves_out(b"/src", True)


def test_a_directory_that_may_not_be_opened_has_nothing_to_take_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "src").mkdir()
    ignore = ContextIgnore(rules=Rules(["src", "!src/keep/x"]), wanted=("",), top=os.fsencode(tmp_path))
    monkeypatch.setattr("runtime.building.dockerignore.open_directory", refused(errno.EACCES))
    assert ignore.leaves_out(b"/src", True)


def test_patterns_that_cannot_be_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files would be in the image that were to be left out."""
    (tmp_path / ".dockerignore").write_text("secret\n")
    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.is_file", lambda _: False)  # as from Python 3.14 on, whatever the error
        assert read_rules(tmp_path, tmp_path / "Dockerfile").leaves_out("secret")
        patched.setattr("os.stat", refused(errno.ENOMEM))
        with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
            read_rules(tmp_path, tmp_path / "Dockerfile")


# Extended attributes of what is copied


CAPABLE = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
"""cap_net_raw, as in security.capability."""


@pytest.fixture
def ping(tmp_path: Path) -> Path:
    """A file with a capability, in a directory; beside that, one to be copied to."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    path = tmp_path / "one/ping"
    path.touch()
    os.setxattr(path, "security.capability", CAPABLE)
    return path


def copy(one: Path, other: Path, every_xattr: bool) -> None:
    source, place = os.open(one, os.O_PATH), os.open(other, os.O_PATH)
    try:
        copied = Copied()
        made = Target(strictly(place), os.fsencode(other), b"copy", Owners(keep=True), copied)
        for item in Tree(source, copied, every_xattr=every_xattr):
            made.add(item)
        made.finish()
    finally:
        os.close(source)
        os.close(place)


@needs_root
@pytest.mark.parametrize("every_xattr", [False, True])
@pytest.mark.parametrize(
    ("module", "call", "number"),
    [
        (trees, "getxattr", errno.ENOMEM),
        (trees, "getxattr", errno.EIO),
        (target, "setxattr", errno.ENOSPC),
        (target, "setxattr", errno.EDQUOT),
    ],
)
def test_an_attribute_that_is_lost_is_an_error(
    ping: Path, monkeypatch: pytest.MonkeyPatch, module: Any, call: str, number: int, every_xattr: bool
) -> None:
    other = ping.parent.with_name("other")
    with monkeypatch.context() as patched:
        patched.setattr(module.os, call, refused(number))
        with pytest.raises(OSError, match=os.strerror(number)) as told:
            copy(ping.parent, other, every_xattr)
    assert b"ping" in told.value.filename
    copy(ping.parent, other, every_xattr)
    assert os.getxattr(other / "copy/ping", "security.capability") == CAPABLE


@needs_root
def test_names_of_attributes_that_cannot_be_read_are_an_error(ping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", refused(errno.ENOMEM))
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        copy(ping.parent, ping.parent.with_name("other"), True)


@needs_root
@pytest.mark.parametrize(
    ("call", "number"),
    [("setxattr", errno.EOPNOTSUPP), ("setxattr", errno.EPERM), ("setxattr", errno.EINVAL), ("getxattr", errno.EACCES),
     ("getxattr", errno.EOVERFLOW), ("listxattr", errno.EOPNOTSUPP)],
)  # fmt: skip
def test_an_attribute_that_cannot_be_had_is_left_out(
    ping: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    other = ping.parent.with_name("other")
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refused(number))
        copy(ping.parent, other, True)
    assert os.listxattr(other / "copy/ping") == []


# Names of containers


def test_a_name_that_cannot_be_looked_up_is_not_free(tmp_path: Path) -> None:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            tree = write_tree(batch, [Entry(b"file", 0o100644, 0, 0, 0, EMPTY_FILE)])
            root = write_root(batch, Entry(b"", 0o40755, 0, 0, 0, tree))
        commit = store.add_commit(root, {}, "base\n", ANA)
        containers = Containers(store)
        web = containers.create("main", commit, Settings(), ANA, "web")
        names = containers._names
        with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
            names.owner("web")
        assert names.owner("other") is None
        for damaged in (b"\xff", b""):
            (names.path / "web").write_bytes(damaged)
            assert names.owner("web") == ""
            names.keep([])
            assert containers.find("web").id == web.id
            with pytest.raises(AlreadyExists):
                containers.create("main", commit, Settings(), ANA, "web")


# What a container is started with


def test_name_servers_that_cannot_be_read() -> None:
    with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
        preparation._host_resolv_conf()


def test_devices_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
        devices.devices(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EACCES])
def test_devices_that_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(os, "scandir", refused(number))
    assert devices.devices(tmp_path) == []


# Blobs of an image


def test_a_blob_that_cannot_be_opened_is_not_the_image_s_fault(tmp_path: Path) -> None:
    (tmp_path / "blob").touch()
    files = DirectoryFiles(tmp_path)
    with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
        files.open("blob")
    for name in ("none", "blob/below", "x" * 300):
        with pytest.raises(BadInput, match="is not in"):
            files.open(name)


# Commands in a container


def test_a_directory_that_cannot_be_looked_at_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    top = os.open(tmp_path, os.O_PATH)
    try:
        with no_more_descriptors(), pytest.raises(OSError, match=TOO_MANY):
            execution._is_directory(Root(top), "/")
        found = [execution._is_directory(Root(top), path) for path in ("/", "/file", "/file/x", "/none", "x" * 300)]
    finally:
        os.close(top)
    assert found == [True, False, False, False, False]


def test_a_process_that_cannot_be_made_does_not_go_on_as_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else there would be two who do what comes after the command."""
    fork, parent = os.fork, os.getpid()
    reader, writer = os.pipe()
    monkeypatch.setattr(os, "fork", lambda: fork() if os.getpid() == parent else refused(errno.EAGAIN)())
    try:
        with pytest.raises(EngineError, match=f"could not be started.*{os.strerror(errno.EAGAIN)}"):
            execute_detached(None, Execution(("true",)))  # type: ignore[arg-type]
    finally:
        if os.getpid() != parent:
            os.write(writer, b"went on")
            os._exit(1)
        os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b""


# A container's own user namespace


@needs_root
@pytest.mark.parametrize(
    ("number", "says", "advises"),
    [(errno.ENOSPC, "forbids user namespaces", True), (errno.ENOMEM, os.strerror(errno.ENOMEM), False)],
)
def test_what_a_user_namespace_fails_for(
    monkeypatch: pytest.MonkeyPatch, number: int, says: str, advises: bool
) -> None:
    monkeypatch.setattr(mounts, "unshare", refused(number))
    with pytest.raises(EngineError, match=says) as told:
        idmapping._user_namespace(100000)
    assert ("advice" in told.value.facts) == advises


# What the kernel tells


@needs_root
@pytest.mark.skipif(watch._linux() < watch._FIRST_LINUX, reason="needs Linux 6.6")
def test_an_event_that_does_not_say_of_what_it_is(tmp_path: Path) -> None:
    """As it comes when the kernel has no memory for a handle."""
    told = watch.watched(tmp_path)
    assert told is not None
    reader, writer = os.pipe2(os.O_NONBLOCK)
    try:
        size = watch._EVENT.size
        os.write(writer, watch._EVENT.pack(size, 3, 0, size, 0x2, -1, os.getpid()))
        os.dup2(reader, told._fd, inheritable=False)
        assert told.complete
        told.read()
        assert not told.complete
    finally:
        told.close()
        os.close(reader)
        os.close(writer)


# The record of mount targets


@pytest.mark.parametrize("damage", [b"", b"[", b"{}", b"[1]", b'[{"path": 1, "dir": true}]', b"[{}]", b"\xff"])
def test_a_damaged_record_of_stubs(tmp_path: Path, damage: bytes) -> None:
    record = tmp_path / "stubs.json"
    assert load_stubs(record) == []
    record.write_bytes(damage)
    with pytest.raises(Corrupt, match=r"stubs\.json cannot be read"):
        load_stubs(record)


def test_a_record_of_stubs_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ext4 may keep the names that it speaks of, and of the record itself only that it is there."""
    synced = []

    def noticed(fd: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(fd).st_mode))

    monkeypatch.setattr(os, "fsync", noticed)
    save_stubs(tmp_path / "stubs.json", [Stub(b"/proc", True)])
    assert synced == [False, True]
    save_stubs(tmp_path / "stubs.json", [Stub(b"/proc", True)], durable=False)
    assert len(synced) == 2


def test_a_lock_is_what_a_copy_goes_by(tmp_path: Path) -> None:
    """One that goes on is left alone, whatever else there is."""
    name = left(tmp_path)
    with (tmp_path / "copying").open("rb") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        remove_unfinished(tmp_path)
    assert name.exists()


def test_a_supervisor_for_which_there_is_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent, a child of ours for a moment, says so, and does not go on as if it were us."""
    us = os.getpid()
    ours, theirs = map(Peer, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    Fault(monkeypatch, os, "fork", errno.ENOMEM, wanted=lambda: os.getpid() != us).arm()
    try:
        child = launch._fork(replace(waiting_job(tmp_path), control=theirs, detach=True))
    finally:
        if os.getpid() != us:
            os._exit(99)
    theirs.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    message = ours.receive()
    ours.close()
    assert message
    assert os.strerror(errno.ENOMEM) in message.fields["error"]
