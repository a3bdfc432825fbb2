"""What an object refers to, whatever kind of object it is."""

from __future__ import annotations

from collections.abc import Iterator

from vcs.encoding import decode_list, decode_root, decode_tree
from vcs.errors import Corrupt
from vcs.layers.format import KIND_CHUNKS, KIND_TREES
from vcs.model import Chunked, Content, Data, Entry, Tree


def references(data: bytes) -> list[tuple[bytes, int]] | None:
    """The digests and kinds of the objects that a tree, a chunk list or a root names; None if it is none of these."""
    try:
        return [pair for item in decode_tree(data) for pair in (
            _of(item.content) if isinstance(item, Entry) else [(item.digest, KIND_TREES)])]  # fmt: skip
    except Corrupt:
        pass
    try:
        items, leaf = decode_list(data)
        return [(item.digest, KIND_CHUNKS if leaf else KIND_TREES) for item in items if item.digest]
    except Corrupt:
        pass
    try:
        return list(_of(decode_root(data).content))
    except Corrupt:
        return None


def _of(content: Content) -> Iterator[tuple[bytes, int]]:
    if isinstance(content, Tree):
        yield content.tree, KIND_TREES
    elif isinstance(content, Chunked):
        yield content.list, KIND_TREES
    elif isinstance(content, Data) and content.size:
        yield content.chunk, KIND_CHUNKS
