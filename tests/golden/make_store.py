"""Makes a store with one of everything: `python -m tests.golden.make_store OUT.tar OUT.txt`.

The result is kept, so that every later version is tested against what an earlier one wrote. Never make it anew for the
same format version.
"""

from __future__ import annotations

import io
import stat
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.support.values import DIRECTORY, Spec, directory, file, link
from vcs.batch import Batch
from vcs.blobs import BlobWriter, put_data
from vcs.history import Author
from vcs.model import CommitId, Device, Entry, Link, Special
from vcs.snapshot import Snapshot
from vcs.store import Store
from vcs.trees import write_root

AUTHOR = Author("Golden Tester", "golden@example.org", 1_700_000_000, 60)
CONFIG = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin", "ODD=ü"]}}


def first(batch: Batch) -> Spec:
    """A small root with every type of file, every attribute and odd names."""
    group = Link(bytes(range(16)), 2)
    twin = file(put_data(batch, b"twins\n"), link=group)
    sparse = BlobWriter(batch)
    sparse.feed(b"head")
    sparse.hole(1 << 40)
    sparse.feed(b"tail")
    capability = (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    return {
        "bin": link("usr/bin"),
        "dev": {
            "null": Entry(b"", stat.S_IFCHR | 0o666, 0, 0, 0, Device(1, 3)),
            "sda": Entry(b"", stat.S_IFBLK | 0o660, 0, 6, 0, Device(8, 0)),
        },
        "etc": {"hostname": b"golden\n", "empty": b"", "twin": twin},
        "run": {
            "pipe": Entry(b"", stat.S_IFIFO | 0o600, 0, 0, 0, Special()),
            "socket": Entry(b"", stat.S_IFSOCK | 0o600, 0, 0, 0, Special()),
        },
        "tmp": directory(batch, {}, mode=stat.S_IFDIR | 0o1777, mtime=-1),
        "usr": {"bin": {"su": file(put_data(batch, b"#!"), mode=0o4755, xattrs=(capability,)), "twin": twin}},
        "var": {
            "sparse": file(sparse.finish(), uid=4_000_000_000, gid=65_534, mtime=1_700_000_000_123_456_789),
            b"odd \n\xff\xfe": b"odd",
            b"n" * 255: b"long",
        },
    }


def second(batch: Batch) -> Spec:
    """The same with a directory large enough to be cut into nodes, and a file large enough to be cut into chunks."""
    big = BlobWriter(batch)
    state = 1
    for _ in range(90_000):
        state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        big.feed(state.to_bytes(8, "little"))
    return {**first(batch), "big": file(big.finish()), "many": {f"{number:05}": b"" for number in range(1000)}}


def make(path: Path) -> None:
    """A store with two commits on `main`, a branch, and tags of both kinds."""
    with Store.create(path) as store:
        parents: list[CommitId] = []
        for number, spec in enumerate((first, second)):
            with store.batch() as batch:
                top = directory(batch, spec(batch), mode=DIRECTORY, mtime=1_600_000_000_000_000_001)
                root = write_root(batch, top)
            message = f"Commit {number}\n\nContainer: golden\n"
            made = store.add_commit(root, CONFIG, message, AUTHOR, tuple(parents[-1:]))
            store.history.move("refs/heads/main", made, parents[-1] if parents else None, f"step {number}", AUTHOR)
            parents.append(made)
        store.history.move("refs/heads/old", parents[0], None, "branch", AUTHOR)
        store.history.tag("v1", parents[0], None, AUTHOR)
        store.history.tag("v2", parents[1], "An annotated tag", AUTHOR)


def describe(store: Store) -> str:
    """Everything in a store, as text."""
    lines = [f"branch {name} {commit}" for name, commit in store.branches().items()]
    lines += [f"tag {name} {commit}" for name, commit in store.tags().items()]
    for commit in reversed(store.commit_ids()):
        info = store.commit(commit)
        lines.append(f"\ncommit {commit} parents={','.join(info.parents)} root={info.root.hex()}")
        lines.append(f"{info.author} <{info.email}> {info.time} {info.offset} {info.message!r}")
        lines.append(f"{store.history.config(commit)}")
        lines += tree_lines(store.snapshot_of(commit))
    return "\n".join(lines) + "\n"


def tree_lines(snapshot: Snapshot) -> list[str]:
    """A line an entry: path, mode, owner, mtime, content and whatever else it has."""
    lines = []
    for path, entry in snapshot.walk():
        if path.startswith(b"/many/") and not path.endswith(b"00"):
            continue
        extra = "".join(f" {name.decode()}={value.hex()}" for name, value in entry.xattrs)
        extra += f" link={entry.link.group.hex()}:{entry.link.count}" if entry.link else ""
        numbers = f"{entry.mode:06o} {entry.uid}:{entry.gid} {entry.mtime}"
        lines.append(f"{path!r} {numbers} {entry.content!r}{extra}")
    return lines


def main() -> None:
    archive, text = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory_:
        path = Path(directory_) / "store"
        make(path)
        with Store.open(path) as store:
            text.write_text(describe(store))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name in ("format", "layers", "history.git", "locks", "containers", "run"):
                tar.add(path / name, name)
        archive.write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
