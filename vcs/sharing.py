"""Who needs each object, in one pass over all of them, however many owners there are.

An owner is whatever needs some objects: a branch, a container, one commit. Each tree and chunk list is opened once;
then what an object is needed by is handed on from parents to children, and a parent comes before its children because
the order is the reverse of the one in which a walk leaves them. What is handed on is a set of owners, and there are far
fewer different sets than objects: an object holds the number of its set.

An object's number is its place among all digests, sorted, so that a million objects take 50 MB and not 200.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from vcs.encoding import decode_list, decode_root, decode_tree
from vcs.errors import Conflict, Missing
from vcs.layers.reader import LayerReader
from vcs.model import DIGEST_SIZE, Chunked, Data, Entry, ObjectId, Tree
from vcs.store import Store

_ATTEMPTS = 5


class Kind(IntEnum):
    """What an object is to the one that names it."""

    CHUNK = 0
    TREE = 1
    LIST = 2
    ROOT = 3


class Start(NamedTuple):
    """An object that is needed with all that it leads to."""

    kind: Kind
    digest: ObjectId


@dataclass(frozen=True, slots=True)
class Bytes:
    """A number of objects, and their bytes: as they are, and as they lie compressed in the layers' blocks."""

    objects: int = 0
    raw: int = 0
    stored: int = 0

    def __add__(self, other: Bytes) -> Bytes:
        return Bytes(self.objects + other.objects, self.raw + other.raw, self.stored + other.stored)


class Sharing:
    """Which owners need how much."""

    def __init__(
        self, store: Store, owners: Sequence[Iterable[Start]], progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """Measure. `owners` are numbered from 0 as they come. Missing or Corrupt if an object cannot be had.

        `progress` is told how many bytes of directories and chunk lists have been read.
        """
        self._store = store
        self._progress = progress
        self._read = 0
        self._table = _Table(store)
        self._sets: list[int] = [0]
        """Each different set of owners, as an integer that has a bit for each."""
        self._set_numbers = {0: 0}
        self._joined: dict[tuple[int, int], int] = {}
        self._nodes = array("I", bytes(4 * len(self._table)))
        self._chunks = array("I", bytes(4 * len(self._table)))
        """The number of each object's set: as a root, tree or list, and as a chunk. A file may hold the very bytes of
        a tree; who needs that chunk needs nothing of what is below the tree."""
        self._order = array("I")
        self._ends = array("Q")
        self._edges = array("I")
        """What the nodes lead to, in the order of `_order`: numbers, doubled, plus 1 for nodes."""
        self.kinds = dict.fromkeys(Kind, Bytes())
        """What is needed of each kind. What is needed as a chunk and as something else is in both."""
        starts = self._starts(owners)
        self._walk(start for start, _ in starts if start.kind is not Kind.CHUNK)
        for start, number in starts:
            self._give(self._table.number(start.digest), start.kind is not Kind.CHUNK, number)
        self._hand_on()
        self.needed: dict[int, Bytes] = self._sum()
        """For each set of owners, what exactly they need. The key is the set: a bit for each owner."""

    @property
    def total(self) -> Bytes:
        """All objects, needed or not. Of one that is in several layers, the one that is found."""
        return self._table.total

    @property
    def blocks(self) -> int:
        """Bytes of all blocks in the layers."""
        return self._table.blocks

    def _starts(self, owners: Sequence[Iterable[Start]]) -> list[tuple[Start, int]]:
        sets: dict[Start, int] = {}
        for position, starts in enumerate(owners):
            for start in starts:
                sets[start] = sets.get(start, 0) | 1 << position
        return [(start, self._number_of_set(owned)) for start, owned in sets.items()]

    # -- the graph

    def _walk(self, starts: Iterable[Start]) -> None:
        """Open every node once, and note what it leads to. Iterative: trees may be deeper than Python's stack."""
        number_of = self._table.number
        seen = bytearray(len(self._table))
        todo: list[tuple[Kind | None, ObjectId, int]] = [(kind, digest, 0) for kind, digest in starts]
        edges: dict[int, array[int]] = {}
        while todo:
            kind, digest, number = todo.pop()
            if kind is None:  # all that it leads to was left before it
                self._order.append(number)
                self._edges += edges.pop(number)
                self._ends.append(len(self._edges))
                continue
            number = number_of(digest)
            if seen[number]:
                continue
            seen[number] = 1
            self.kinds[kind] += self._table.size(number)
            todo.append((None, b"", number))
            found = edges[number] = array("I")
            for child in self._children(kind, digest):
                if child.kind is Kind.CHUNK:
                    found.append(number_of(child.digest) << 1)
                else:
                    position = number_of(child.digest)
                    found.append(position << 1 | 1)
                    if not seen[position]:
                        todo.append((*child, 0))

    def _children(self, kind: Kind, digest: ObjectId) -> Iterator[Start]:
        data = self._store.get(digest)
        self._read += len(data)
        self._progress(self._read)
        if kind is Kind.LIST:
            items, leaf = decode_list(data)
            below = Kind.CHUNK if leaf else Kind.LIST
            for item in items:
                if item.digest:
                    yield Start(below, item.digest)
            return
        for entry in [decode_root(data)] if kind is Kind.ROOT else decode_tree(data):
            if isinstance(entry, Entry):
                start = start_of(entry)
                if start is not None:
                    yield start
            else:
                yield Start(Kind.TREE, entry.digest)

    def _hand_on(self) -> None:
        """Give each node's set to what it leads to. A node comes after all that lead to it."""
        nodes, edges, ends = self._nodes, self._edges, self._ends
        for position in reversed(range(len(self._order))):
            number = nodes[self._order[position]]
            if number:
                for edge in edges[ends[position - 1] if position else 0 : ends[position]]:
                    self._give(edge >> 1, bool(edge & 1), number)

    # -- sets of owners

    def _give(self, position: int, as_node: bool, number: int) -> None:
        held = self._nodes if as_node else self._chunks
        if held[position] != number:
            held[position] = self._join(held[position], number)

    def _join(self, one: int, other: int) -> int:
        """The number of the union of two sets."""
        key = (one, other)
        found = self._joined.get(key)
        if found is None:
            found = self._joined[key] = self._number_of_set(self._sets[one] | self._sets[other])
        return found

    def _number_of_set(self, owners: int) -> int:
        number = self._set_numbers.setdefault(owners, len(self._sets))
        if number == len(self._sets):
            self._sets.append(owners)
        return number

    def _sum(self) -> dict[int, Bytes]:
        objects, raw, stored = Counter[int](), Counter[int](), Counter[int]()
        chunks = array("I")
        for position, (one, other) in enumerate(zip(self._nodes, self._chunks, strict=True)):
            number = one if one == other or not other else self._join(one, other)
            if number:
                objects[number] += 1
                raw[number] += self._table.raw[position]
                stored[number] += self._table.stored[position]
            if other:
                chunks.append(position)
        self.kinds[Kind.CHUNK] = Bytes(
            len(chunks), sum(map(self._table.raw.__getitem__, chunks)), sum(map(self._table.stored.__getitem__, chunks))
        )
        return {self._sets[number]: Bytes(objects[number], raw[number], stored[number]) for number in objects}


def start_of(entry: Entry) -> Start | None:
    """The object that holds an entry's content; None if it needs none."""
    content = entry.content
    kind = type(content)
    if kind is Data:
        return Start(Kind.CHUNK, content.chunk) if content.size else None  # type: ignore[union-attr]
    if kind is Tree:
        return Start(Kind.TREE, content.tree)  # type: ignore[union-attr]
    return Start(Kind.LIST, content.list) if kind is Chunked else None  # type: ignore[union-attr]


class _Table:
    """Every indexed object by number, with its length and its share of the block that it is in."""

    def __init__(self, store: Store) -> None:
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                self._read(store)
                break
            except (FileNotFoundError, KeyError):  # gc, or a writer, changed the layers while we read
                if not attempts_left:
                    raise Conflict("the layers change faster than they can be read") from None
                store.index.refresh()
        self._first = array("I", bytes(4 * ((1 << 16) + 1)))
        """Where the digests that begin with the same two bytes begin."""
        for position in range(0, len(self._digests), DIGEST_SIZE):
            self._first[_prefix(self._digests, position) + 1] += 1
        for prefix in range(1 << 16):
            self._first[prefix + 1] += self._first[prefix]
        self.total = Bytes(len(self.raw), sum(self.raw), sum(self.stored))

    def _read(self, store: Store) -> None:
        blocks = _blocks(store)
        self.blocks = sum(stored for rows in blocks.values() for stored, _ in rows)
        rests: dict[tuple[int, int], int] = {}
        self.raw = array("I")
        self.stored = array("I")
        digests = bytearray()
        for digest, layer, block, length in store.index.rows():
            stored, whole = blocks[layer][block]
            # What a division leaves over goes to the block's next object: the shares add up to the block.
            share, rests[layer, block] = divmod(stored * length + rests.get((layer, block), 0), whole or 1)
            self.raw.append(length)
            self.stored.append(share)
            digests += digest
        self._digests = bytes(digests)

    def __len__(self) -> int:
        return len(self.raw)

    def size(self, number: int) -> Bytes:
        """One object."""
        return Bytes(1, self.raw[number], self.stored[number])

    def number(self, digest: ObjectId) -> int:
        """The place of a digest among all, sorted: looked for among the few that begin with the same two bytes."""
        prefix = _prefix(digest, 0)
        start, end = self._first[prefix] * DIGEST_SIZE, self._first[prefix + 1] * DIGEST_SIZE
        found = self._digests.find(digest, start, end)
        while found >= 0 and found % DIGEST_SIZE:  # the end of one digest and the beginning of the next
            found = self._digests.find(digest, found + 1, end)
        if found < 0:
            raise Missing(f"object {digest.hex()} is in no layer", digest=digest.hex())
        return found // DIGEST_SIZE


def _prefix(data: bytes, position: int) -> int:
    return data[position] << 8 | data[position + 1]


def _blocks(store: Store) -> dict[int, list[tuple[int, int]]]:
    """For each layer, by the index's number: its blocks' bytes in the file and decompressed."""
    found = {}
    for number, name in store.index.numbers().items():
        reader = LayerReader(store.layer_path(name))
        try:
            found[number] = [(block.stored, block.length) for block in reader.footer().blocks]
        finally:
            reader.close()
    return found
