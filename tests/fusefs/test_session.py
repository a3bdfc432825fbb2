"""The driver as the kernel sees it: through a socket pair, without root."""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct

import pytest

from fusefs.filesystem import FileSystem
from fusefs.session import Session
from fusefs.wire.protocol import UNIQUE_RESEND, Init, Opcode
from fusefs.wire.replies import ENDLESS
from tests.fusefs.fake_kernel import ALL_FLAGS, FakeKernel, Found, Reply
from tests.fusefs.sample_root import top
from tests.support.values import root
from vcs.testing import MemoryStore

# -- INIT


def init_flags(reply: Reply) -> int:
    _, _, _, low = struct.unpack_from("<IIII", reply.body)
    return int(low) | int.from_bytes(reply.body[32:36], "little") << 32


def test_init_agrees_on_what_both_can(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), FakeKernel(store, init=False) as kernel:
        reply = kernel.init(flags=ALL_FLAGS & ~Init.CACHE_SYMLINKS | 1 << 63)
        flags = init_flags(reply)
        assert struct.unpack_from("<II", reply.body) == (7, 38)
        assert flags & Init.DO_READDIRPLUS
        assert flags & Init.POSIX_ACL
        assert not flags & (Init.CACHE_SYMLINKS | Init.READDIRPLUS_AUTO | 1 << 63)
    logged = {record.getMessage() for record in caplog.records}
    for capability in Init:
        assert any(message.startswith(f"{capability.name} is ") for message in logged), capability.name


def test_a_later_major_version_is_answered_with_ours_alone(store: MemoryStore) -> None:
    with FakeKernel(store, init=False) as kernel:
        assert struct.unpack_from("<II", kernel.init(major=8).body)[0] == 7
        assert kernel.session.capabilities is None
        assert kernel.init().error == 0
        assert kernel.session.capabilities is not None


@pytest.mark.parametrize(("major", "minor"), [(6, 30), (7, 12)])
def test_a_kernel_that_is_too_old_is_refused(store: MemoryStore, major: int, minor: int) -> None:
    with FakeKernel(store, init=False) as kernel:
        assert kernel.init(major, minor).error == errno.EPROTO


@pytest.mark.parametrize("opcode", [Opcode.OPEN, Opcode.OPENDIR])
def test_open_is_answered_once_for_all_where_the_kernel_can(store: MemoryStore, opcode: Opcode) -> None:
    with FakeKernel(store) as kernel:
        assert kernel.fails(opcode, 1, bytes(8)) == errno.ENOSYS
    flags = ALL_FLAGS & ~(Init.NO_OPEN_SUPPORT | Init.NO_OPENDIR_SUPPORT)
    with FakeKernel(store, flags=flags) as kernel:
        _, opened, _ = struct.unpack("<QII", kernel.get(opcode, 1, bytes(8)))
        assert opened & 2, "the page cache is kept"


# -- names


def test_what_is_in_a_root_holds_for_ever_and_so_does_what_is_not(kernel: FakeKernel, store: MemoryStore) -> None:
    tree = top(kernel, store)
    etc = kernel.lookup(tree.nodeid, b"etc")
    assert etc is not None
    assert (etc.name_lifetime, etc.lifetime) == (ENDLESS, ENDLESS)
    assert kernel.lookup(etc.nodeid, b"absent") is None
    assert kernel.missing_lifetime == ENDLESS
    assert kernel.lookup(etc.nodeid, b"..") is None


def test_what_is_above_the_roots_is_asked_for_each_time(kernel: FakeKernel, store: MemoryStore) -> None:
    assert kernel.walk(b"trees").name_lifetime == ENDLESS
    for where in (b"branches", b"tags", b"commits", b"trees"):
        assert kernel.lookup(kernel.walk(where).nodeid, b"absent") is None
        assert kernel.missing_lifetime == 0
    assert kernel.walk(b"branches", b"main").name_lifetime == 0
    assert kernel.walk(b"branches", b"topic").name_lifetime == 0
    assert kernel.lookup(1, b"absent") is None
    assert kernel.missing_lifetime == ENDLESS, "the names at the top are always the same"


def test_a_branch_that_moves_is_another_node(kernel: FakeKernel, store: MemoryStore) -> None:
    before = kernel.walk(b"branches", b"main")
    first = kernel.get(Opcode.READLINK, before.nodeid)
    assert kernel.walk(b"branches", b"main").nodeid == before.nodeid
    moved = root(store, {"new": b"new"})
    store.add_commit(moved, "main")
    after = kernel.walk(b"branches", b"main")
    assert after.nodeid != before.nodeid, "the kernel keeps what the old one says"
    assert kernel.get(Opcode.READLINK, after.nodeid) == b"../trees/" + moved.hex().encode()
    assert kernel.get(Opcode.READLINK, before.nodeid) == first
    deep = kernel.walk(b"branches", b"topic", b"one")
    assert kernel.get(Opcode.READLINK, deep.nodeid).startswith(b"../../trees/")


def test_a_changing_directory_is_never_kept_by_the_kernel(kernel: FakeKernel, store: MemoryStore) -> None:
    """The whole listing is dropped before the answer that makes the kernel believe it is complete."""
    branches = kernel.walk(b"branches").nodeid
    found = [found.name for found in kernel.readdirplus(branches)]
    assert found[:2] == [b".", b".."]
    assert sorted(found[2:]) == [b"main", b"topic"]
    assert kernel.notices == [struct.pack("<IiQQqq", 40, 2, 0, branches, 0, 0)]
    store.branch_map["new"] = store.branch_map["main"]
    assert b"new" in [found.name for found in kernel.readdirplus(branches)]
    kernel.notices.clear()
    kernel.readdirplus(top(kernel, store).nodeid)
    kernel.readdirplus(1)
    assert kernel.notices == []


def test_a_listing_in_the_middle_is_not_moved_by_a_change(kernel: FakeKernel, store: MemoryStore) -> None:
    """Nor by another process that goes on with it, which knows nothing of its beginning."""
    for number in range(40):
        store.branch_map[f"b{number:02}"] = store.branch_map["main"]
    branches = kernel.walk(b"branches").nodeid
    begun = kernel.readdirplus_once(branches, 0, 1000)
    assert 2 < len(begun) < 10
    del store.branch_map[next(found.name.decode() for found in begun if found.name.startswith(b"b"))]
    store.branch_map["new"] = store.branch_map["main"]
    with FakeKernel(store) as other:
        for one in (kernel, other):
            seen = list(begun)
            while found := one.readdirplus_once(branches, seen[-1].offset, 1000):
                seen += found
            names = [found.name.decode() for found in seen[2:]]
            assert len(names) == len(set(names))
            assert set(names) - {"new"} == {"main", "topic"} | {f"b{number:02}" for number in range(40)}


@pytest.mark.parametrize("size", [200, 512, 4096, 1 << 20])
def test_readdirplus_gives_every_name_once_whatever_the_buffer(
    kernel: FakeKernel, store: MemoryStore, size: int
) -> None:
    many = kernel.lookup(top(kernel, store).nodeid, b"many")
    assert many is not None
    found = kernel.readdirplus(many.nodeid, size)
    assert [entry.name for entry in found] == [b".", b"..", *(b"name-%04d" % number for number in range(500))]
    assert [entry.offset for entry in found] == list(range(1, 503))
    assert len({entry.nodeid for entry in found[2:]}) == 500
    for entry in found[2:5]:
        assert kernel.lookup(many.nodeid, entry.name) == replace_name(entry)
    if size >= 512:
        plain = kernel.readdir(many.nodeid, size)
        assert [(name, ino) for name, ino, _ in plain[2:]] == [(entry.name, entry.attr.ino) for entry in found[2:]]


def replace_name(entry: Found) -> Found:
    return Found(entry.nodeid, entry.name_lifetime, entry.lifetime, entry.attr)


def test_roots_are_listed_and_any_root_is_found(kernel: FakeKernel, store: MemoryStore) -> None:
    trees = kernel.walk(b"trees").nodeid
    hidden = root(store, {"only": b"by digest"})
    listed = [found.name for found in kernel.readdirplus(trees)[2:]]
    assert listed == [store.commit(store.branch_map["main"]).root.hex().encode()]
    assert kernel.lookup(trees, hidden.hex().encode()) is not None
    for name in (hidden.hex().upper().encode(), hidden.hex()[:-1].encode(), b"0" * 64, b"z" * 64):
        assert kernel.lookup(trees, name) is None
    commit = store.branch_map["main"].encode()
    assert [found.name for found in kernel.readdirplus(kernel.walk(b"commits").nodeid)[2:]] == [commit]
    assert stat.S_ISLNK(kernel.walk(b"commits", commit).attr.mode)


# -- attributes and content


def test_attributes(kernel: FakeKernel, store: MemoryStore) -> None:
    tree = top(kernel, store).nodeid
    named = {found.name: found.attr for found in kernel.readdirplus(tree)}
    console = named[b"console"]
    assert console.rdev == 0x11112C70
    assert (console.mode, console.gid) == (stat.S_IFCHR | 0o620, 5)
    assert console.mtime == (2**64 - 1, 999_999_999), "one nanosecond before 1970"
    assert named[b"old"].uid == 4_000_000_000
    assert named[b"bin"].size == 7
    assert (named[b"sparse"].size, named[b"sparse"].blocks) == ((1 << 40) + 8, 8)
    assert stat.S_ISFIFO(named[b"pipe"].mode)
    assert named[b"etc"].nlink == 1
    assert kernel.getattr(console.ino) == console
    assert (kernel.getattr(1).uid, kernel.getattr(1).gid, kernel.getattr(1).mtime) == (7, 8, (1, 500_000_000))


def test_reading(kernel: FakeKernel, store: MemoryStore) -> None:
    tree = top(kernel, store).nodeid
    named = {found.name: found.nodeid for found in kernel.readdirplus(tree)}
    passwd = kernel.lookup(named[b"etc"], b"passwd")
    assert passwd is not None
    assert kernel.read(passwd.nodeid, 0, 4096) == b"root:x:0:0\n"
    assert kernel.read(passwd.nodeid, 5, 3) == b"x:0"
    assert kernel.read(passwd.nodeid, 100, 3) == b""
    assert kernel.read(named[b"sparse"], (1 << 40) + 2, 1 << 20) == bytes(2) + b"tail"
    assert kernel.read(named[b"\xff\xfe\nnew"], 0, 100) == b"odd name"
    assert kernel.get(Opcode.READLINK, named[b"bin"]) == b"usr/bin"
    assert kernel.fails(Opcode.READLINK, passwd.nodeid) == errno.EINVAL
    assert kernel.fails(Opcode.READ, named[b"etc"], bytes(40)) == errno.EISDIR
    assert kernel.fails(Opcode.READ, named[b"console"], bytes(40)) == errno.EINVAL
    assert kernel.fails(Opcode.LOOKUP, passwd.nodeid, b"x\0") == errno.ENOTDIR
    assert kernel.fails(Opcode.READDIRPLUS, passwd.nodeid, bytes(40)) == errno.ENOTDIR


@pytest.mark.parametrize(
    ("name", "offset", "whence", "found"),
    [
        (b"sparse", 0, os.SEEK_DATA, 0),
        (b"sparse", 0, os.SEEK_HOLE, 4),
        (b"sparse", 1000, os.SEEK_DATA, (1 << 40) + 4),
        (b"sparse", (1 << 40) + 5, os.SEEK_HOLE, (1 << 40) + 8),
        (b"sparse", (1 << 40) + 8, os.SEEK_DATA, -errno.ENXIO),
        (b"old", 3, os.SEEK_DATA, 3),
        (b"old", 3, os.SEEK_HOLE, 11),
        (b"old", 11, os.SEEK_HOLE, -errno.ENXIO),
        (b"old", 0, os.SEEK_END, -errno.EINVAL),
    ],
)
def test_seeking(kernel: FakeKernel, store: MemoryStore, name: bytes, offset: int, whence: int, found: int) -> None:
    node = kernel.lookup(top(kernel, store).nodeid, name)
    assert node is not None
    reply = kernel.ask(Opcode.LSEEK, node.nodeid, struct.pack("<QQII", 0, offset, whence, 0))
    assert reply is not None
    assert (-reply.error if reply.error else int.from_bytes(reply.body, "little")) == found


def test_xattrs_of_overlayfs_are_served_escaped(kernel: FakeKernel, store: MemoryStore) -> None:
    node = kernel.lookup(top(kernel, store).nodeid, b"labelled")
    assert node is not None
    assert kernel.xattr(node.nodeid, b"trusted.overlay.opaque").error == errno.ENODATA
    assert kernel.xattr(node.nodeid, b"trusted.overlay.overlay.opaque", 10).body == b"y"
    assert kernel.xattr(node.nodeid, b"user.k").body == struct.pack("<II", 5, 0)
    assert kernel.xattr(node.nodeid, b"user.k", 4).error == errno.ERANGE
    assert kernel.xattr(node.nodeid, b"user.k", 5).body == b"value"
    names = kernel.get(Opcode.LISTXATTR, node.nodeid, struct.pack("<II", 100, 0))
    assert names == b"trusted.overlay.overlay.opaque\0user.k\0"
    assert kernel.get(Opcode.LISTXATTR, node.nodeid, bytes(8)) == struct.pack("<II", len(names), 0)
    assert kernel.fails(Opcode.LISTXATTR, node.nodeid, struct.pack("<II", 5, 0)) == errno.ERANGE
    plain = kernel.lookup(top(kernel, store).nodeid, b"old")
    assert plain is not None
    assert kernel.xattr(plain.nodeid, b"security.capability").error == errno.ENODATA
    assert kernel.get(Opcode.LISTXATTR, plain.nodeid, struct.pack("<II", 100, 0)) == b""


# -- nodes


def test_what_the_kernel_forgets_comes_back_with_its_number(kernel: FakeKernel, store: MemoryStore) -> None:
    table = kernel.filesystem.table
    etc = kernel.lookup(top(kernel, store).nodeid, b"etc")
    assert etc is not None
    before = len(table.nodes)
    first = {found.name: found.nodeid for found in kernel.readdirplus(etc.nodeid)[2:]}
    assert len(table.nodes) == before + 3
    kernel.forget(first[b"hostname"], 2)
    body = struct.pack("<II", 2, 0) + b"".join(struct.pack("<QQ", first[name], 1) for name in (b"passwd", b"empty"))
    assert kernel.ask(Opcode.BATCH_FORGET, 0, body) is None
    assert len(table.nodes) == before
    again = kernel.lookup(etc.nodeid, b"hostname")
    assert again is not None
    assert again.nodeid == first[b"hostname"], "a name has its number as long as the mount lives"


def test_what_only_another_session_has_handed_out_is_known(kernel: FakeKernel, store: MemoryStore) -> None:
    """The kernel has forgotten it, says one of them; but it has given it to another one meanwhile."""
    etc = kernel.lookup(top(kernel, store).nodeid, b"etc")
    assert etc is not None
    passwd = kernel.lookup(etc.nodeid, b"passwd")
    assert passwd is not None
    link = kernel.walk(b"branches", b"topic", b"one").nodeid
    target = kernel.get(Opcode.READLINK, link)
    kernel.filesystem.table.nodes.clear()
    kernel.filesystem = FileSystem(store, uid=7, gid=8, time=1_500_000_000, journal=kernel.journal)
    kernel.session = Session(kernel.theirs.fileno(), kernel.filesystem, slot=kernel.slot)
    assert kernel.getattr(passwd.nodeid) == passwd.attr
    assert kernel.read(passwd.nodeid, 0, 100) == b"root:x:0:0\n"
    assert kernel.lookup(etc.nodeid, b"hostname") is not None
    assert kernel.get(Opcode.READLINK, link) == target
    assert kernel.walk(b"branches", b"topic", b"one").nodeid == link


def test_the_fixed_directories_are_never_forgotten(kernel: FakeKernel) -> None:
    trees = kernel.walk(b"trees").nodeid
    kernel.forget(trees, 1)
    kernel.forget(1, 1000)
    kernel.forget(987654, 1)
    assert kernel.walk(b"trees").nodeid == trees


def test_the_cache_of_nodes_is_bounded(kernel: FakeKernel, store: MemoryStore) -> None:
    table = kernel.filesystem.table
    table._most = 100
    many = kernel.lookup(top(kernel, store).nodeid, b"many")
    assert many is not None
    found = kernel.readdirplus(many.nodeid, 1024)[2:]
    assert len(found) == 500
    assert len(table.nodes) <= 100
    for entry in found:
        assert kernel.getattr(entry.nodeid) == entry.attr


# -- several sessions, one after the other


@pytest.mark.parametrize("again", [0, UNIQUE_RESEND])
def test_a_request_in_the_hands_of_a_dead_session_is_answered_by_the_next(kernel: FakeKernel, again: int) -> None:
    """Where the kernel does not send it again, the request memory has it; where it does, the same request has a bit
    more, and its answer too."""
    message = struct.pack("<IIQQIIIHH", 47, Opcode.LOOKUP, again | 42, 1, 0, 0, 0, 0, 0) + b"trees\0\0"
    kernel.mine.send(message)
    assert os.readv(kernel.theirs.fileno(), (kernel.slot.buffer,)) == len(message)
    assert kernel.slot.request == message
    kernel.session = Session(kernel.theirs.fileno(), kernel.filesystem, slot=kernel.slot)
    assert kernel.session.capabilities is not None, "INIT is not asked again"
    assert kernel.session.replay()
    length, error, unique = struct.unpack_from("<IiQ", kernel.mine.recv(4096))
    assert (length, error, unique) == (16 + 128, 0, again | 42)
    assert kernel.slot.length == 0
    assert kernel.session.replay(), "there is nothing left"
    with pytest.raises(BlockingIOError):
        kernel.mine.recv(4096)


def test_a_successor_begins_where_init_was_not_answered(store: MemoryStore) -> None:
    with FakeKernel(store, init=False) as kernel:
        body = struct.pack("<IIIII44x", 7, 45, 131072, ALL_FLAGS & 0xFFFFFFFF, 0)
        kernel.mine.send(struct.pack("<IIQQIIIHH", 104, Opcode.INIT, 2, 0, 0, 0, 0, 0, 0) + body)
        assert os.readv(kernel.theirs.fileno(), (kernel.slot.buffer,)) == 104
        assert kernel.slot.memory.negotiated is None
        kernel.session = Session(kernel.theirs.fileno(), kernel.filesystem, slot=kernel.slot)
        assert kernel.session.replay()
        kernel.session.negotiate()
        assert kernel.slot.memory.negotiated is not None
        assert struct.unpack_from("<IiQ", kernel.mine.recv(4096))[1:] == (0, 2)


def test_a_successor_opens_as_was_agreed(store: MemoryStore) -> None:
    flags = ALL_FLAGS & ~(Init.NO_OPEN_SUPPORT | Init.NO_OPENDIR_SUPPORT)
    for agreed in (ALL_FLAGS, flags):
        with FakeKernel(store, flags=agreed) as kernel:
            kernel.session = Session(kernel.theirs.fileno(), kernel.filesystem, slot=kernel.slot)
            for opcode in (Opcode.OPEN, Opcode.OPENDIR):
                reply = kernel.ask(opcode, 1, bytes(8))
                assert reply is not None
                assert reply.error == (errno.ENOSYS if agreed == ALL_FLAGS else 0)


def test_the_slot_tells_what_is_done(kernel: FakeKernel) -> None:
    kernel.walk(b"trees")
    counts = kernel.slot.counts
    assert (counts.messages, counts.nodes, counts.given) == (
        kernel.session.served,
        len(kernel.filesystem.table.nodes),
        0,
    )
    assert kernel.slot.length == 0


def test_a_trace_has_a_line_for_each_message(store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "fusefs.trace"), FakeKernel(store) as kernel:
        kernel.walk(b"trees")
        kernel.lookup(1, b"absent")
        kernel.readdirplus(1)
        kernel.xattr(1, b"user.x")
        kernel.ask(Opcode.BATCH_FORGET, 0, bytes(8))
        kernel.ask(Opcode.INTERRUPT, 0, struct.pack("<Q", 8))
        kernel.ask(99, 5, b"")
        kernel.ask(Opcode.LOOKUP, 1, b"")
    lines = [record.getMessage() for record in caplog.records if record.name == "fusefs.trace"]
    assert len(lines) == kernel.session.served
    assert "4 LOOKUP node 1 b'trees': 128 bytes" in lines
    assert "8 READDIRPLUS node 1 4096 bytes at 0: 1288 bytes" in lines
    assert "12 GETXATTR node 1 b'user.x': ENODATA" in lines
    assert "14 BATCH_FORGET node 0 0 nodes: no reply" in lines
    assert "16 INTERRUPT node 0 of 8: no reply" in lines
    assert "18 operation 99 node 5: ENOSYS" in lines
    assert "20 LOOKUP node 1 malformed, 0 bytes: EINVAL" in lines
