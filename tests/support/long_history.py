"""A history of very many commits, branches and tags, made fast: git's files are written as they are."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from vcs.model import RootId


def write_long_history(repository: Path, root: RootId, count: int, start: int = 1_700_000_000) -> list[str]:
    """A line of commits on one root, a second apart, each with a branch (`b00000`) and a tag (`t00000`); their ids."""

    def put(kind: bytes, data: bytes) -> str:
        whole = b"%s %d\0%s" % (kind, len(data), data)
        name = hashlib.sha1(whole).hexdigest()
        path = repository / "objects" / name[:2] / name[2:]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(zlib.compress(whole, 0))
        return name

    config = bytes.fromhex(put(b"blob", b"{}\n"))
    blob = bytes.fromhex(put(b"blob", root.hex().encode() + b"\n"))
    tree = put(b"tree", b"100644 config.json\0" + config + b"100644 root\0" + blob)
    made: list[str] = []
    for number in range(count):
        parent = f"parent {made[-1]}\n" if made else ""
        who = f"Ada Tester <ada@example.org> {start + number} +0000"
        text = f"tree {tree}\n{parent}author {who}\ncommitter {who}\n\nnumber {number}\n"
        made.append(put(b"commit", text.encode()))
    lines = [f"{commit} refs/{kind}{n:05}" for kind in ("heads/b", "tags/t") for n, commit in enumerate(made)]
    (repository / "packed-refs").write_text("# pack-refs with: peeled fully-peeled sorted \n" + "\n".join(lines) + "\n")
    return made
