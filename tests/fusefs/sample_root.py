"""A root with one of each kind of entry, as sessions serve it."""

from __future__ import annotations

import stat

from tests.fusefs.fake_kernel import FakeKernel, Found
from tests.support.values import file, link, root
from vcs.blobs import BlobWriter, put_data
from vcs.model import Device, Entry, RootId, Special
from vcs.testing import MemoryStore

OPAQUE = (b"trusted.overlay.opaque", b"y")


def sample(store: MemoryStore) -> RootId:
    writer = BlobWriter(store)
    writer.feed(b"head")
    writer.hole(1 << 40)
    writer.feed(b"tail")
    device = Entry(b"", stat.S_IFCHR | 0o620, 0, 5, -1, Device(300, 70_000))
    spec = {
        "etc": {"passwd": b"root:x:0:0\n", "hostname": b"ring\n", "empty": b""},
        "bin": link("usr/bin"),
        "many": {f"name-{number:04}": b"%d" % number for number in range(500)},
        "sparse": file(writer.finish(), 0o600),
        "console": device,
        "pipe": Entry(b"", stat.S_IFIFO | 0o644, 1, 2, 3, Special()),
        "labelled": file(put_data(store, b"x"), xattrs=(OPAQUE, (b"user.k", b"value"))),
        b"\xff\xfe\nnew": b"odd name",
        "old": file(put_data(store, b"before 1970"), uid=4_000_000_000, mtime=-1),
    }
    return root(store, spec)


def top(kernel: FakeKernel, store: MemoryStore) -> Found:
    commit = store.commit(store.branch_map["main"])
    return kernel.walk(b"trees", commit.root.hex().encode())
