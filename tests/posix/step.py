"""Steps, and how one is chosen: from a seed and the names that are there, so that most of them do something."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

COMMIT = "commit"
"""A step of the container's alone: a commit while it runs."""
NEXT = "next"
"""It is stopped and committed, and what comes is done to the next one: numbers (1,) the same one started again, (0,) a
new one of the commit."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done, the same everywhere: a name of hand.DEEDS, or one of the above."""

    what: str
    paths: tuple[bytes, ...] = ()
    numbers: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.what}({', '.join([*map(repr, self.paths), *map(str, self.numbers)])})"

    def as_json(self) -> list[Any]:
        return [self.what, [os.fsdecode(path) for path in self.paths], list(self.numbers)]

    @staticmethod
    def of_json(value: Sequence[Any]) -> Step:
        return Step(value[0], tuple(os.fsencode(path) for path in value[1]), tuple(value[2]))


Numbers = Sequence[int] | str
NUMBER = "number"
"""A number that no other step has: what it writes is known by it."""

_NAMES = (b"a", b"b", b"c", b"d", b"e", b"sub", b"n\xff\n", b"l" * 255)
_MODES = (0o644, 0o600, 0o755, 0o4711, 0o2750, 0o1777, 0o7777, 0)
_OFFSETS = (0, 0, 1, 4095, 4096, 5000, 65536, 70_001, 300_000, 1 << 20)
_SIZES = (0, 1, 10, 511, 4096, 5000, 70_000, 131_073)
_LENGTHS = (0, 1, 100, 4096, 4097, 70_000, 1 << 20, 5 << 20, 1 << 36)
_OWNERS = (0, 1, 1000, 65534, 4_000_000_000)
_TIMES = (1, -(10**9), 1_700_000_000_123_456_789, 999_999_999, 4_100_000_000_000_000_001, 10**18 + 1)
_ATTRIBUTES = (b"user.a", b"user.b", b"trusted.t", b"trusted.overlay.opaque", b"trusted.overlay.overlay.deep")
_CAPABILITY = b"security.capability"
_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_KINDS = (stat.S_IFIFO | 0o640, stat.S_IFSOCK | 0o777, stat.S_IFCHR | 0o660, stat.S_IFBLK | 0o600)
_TARGETS = (b"a", b"../b", b"/sub/c", b"nowhere", b"/", b"t" * 4000)
_SLOTS = tuple(range(6))
_KEEP_SIZE, _PUNCH, _COLLAPSE, _ZERO, _INSERT = 1, 3, 8, 16, 32
_ALLOCATIONS = (0, _KEEP_SIZE, _PUNCH, _PUNCH, _ZERO, _ZERO | _KEEP_SIZE, _COLLAPSE, _INSERT)
_NO_REPLACE, _EXCHANGE, _WHITEOUT = 1, 2, 4
_OPEN = (os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDONLY, os.O_RDWR | os.O_TRUNC)
_DEEP = 7

SHAPES: dict[str, tuple[int, tuple[str, ...], tuple[Numbers, ...]]] = {
    # how often, what paths, what numbers
    "create": (6, ("new",), (_MODES, (0, os.O_EXCL, os.O_TRUNC), NUMBER, _SIZES)),
    "write": (6, ("file",), (_OFFSETS, NUMBER, _SIZES, (0, 0, os.O_APPEND, os.O_TRUNC, os.O_NOFOLLOW))),
    "read": (3, ("any",), (_OFFSETS, _SIZES)),
    "truncate": (3, ("file",), (_LENGTHS,)),
    "fallocate": (4, ("file",), (_ALLOCATIONS, _OFFSETS, _LENGTHS[1:7])),
    "copy_range": (3, ("file", "file"), (_OFFSETS, _OFFSETS, _SIZES)),
    "store": (4, ("file",), (_OFFSETS, NUMBER, _SIZES)),
    "rename": (9, ("any", "anywhere"), ((0, 0, _NO_REPLACE, _EXCHANGE, _EXCHANGE, _WHITEOUT),)),
    "link": (4, ("any", "anywhere"), ()),
    "symlink": (2, ("target", "new"), ()),
    "mkdir": (4, ("new",), (_MODES,)),
    "rmdir": (2, ("directory",), ()),
    "unlink": (4, ("any",), ()),
    "remove_all": (1, ("below",), ()),
    "mkdir_again": (2, ("below",), (_MODES,)),
    "mknod": (2, ("new",), (_KINDS, (1, 259), (3, 5, 1_048_575))),
    "tmpfile": (2, ("directory", "new"), (_MODES, NUMBER, _SIZES)),
    "chmod": (4, ("any",), (_MODES,)),
    "chown": (4, ("any",), (_OWNERS, _OWNERS)),
    "utimens": (4, ("any",), (_TIMES,)),
    "setxattr": (5, ("any", "attribute"), (NUMBER, (0, 1, 20, 1000), (0, 0, os.XATTR_CREATE, os.XATTR_REPLACE))),
    "removexattr": (3, ("any", "attribute"), ()),
    "setacl": (2, ("any", "acl"), (_OWNERS[1:4], (4, 6, 7))),
    "stat": (2, ("any",), ()),
    "list": (2, ("directory",), ()),
    "readlink": (1, ("any",), ()),
    "hold": (6, ("file",), (_SLOTS, _OPEN)),
    "held_read": (3, (), (_SLOTS, _OFFSETS, _SIZES)),
    "held_write": (5, (), (_SLOTS, _OFFSETS, NUMBER, _SIZES)),
    "held_truncate": (1, (), (_SLOTS, _LENGTHS)),
    "held_fallocate": (2, (), (_SLOTS, _ALLOCATIONS, _OFFSETS, _LENGTHS[1:7])),
    "held_chmod": (1, (), (_SLOTS, _MODES)),
    "held_chown": (1, (), (_SLOTS, _OWNERS, _OWNERS)),
    "held_utimens": (1, (), (_SLOTS, _TIMES)),
    "held_setxattr": (1, ("attribute",), (_SLOTS, NUMBER, (1, 20))),
    "held_stat": (4, (), (_SLOTS,)),
    "held_link": (1, ("new",), (_SLOTS,)),
    "held_sync": (1, (), (_SLOTS,)),
    "held_map": (3, (), (_SLOTS,)),
    "held_store": (5, (), (_SLOTS, _OFFSETS, NUMBER, _SIZES)),
    "let_go": (2, (), (_SLOTS,)),
}
NOT_LIKE_EXT4 = frozenset({"link", "held_link"})
"""What overlayfs does otherwise than other file systems, by its own documentation: a hard-linked file of the lower that
is written to parts from its other names, and a file that was opened to be read does not see what is written."""


class Chooser:
    """Chooses steps, one after the other."""

    def __init__(self, chance: random.Random, without: frozenset[str] = frozenset()) -> None:
        self._chance = chance
        self._whats = [what for what in SHAPES if what not in without]
        self._weights = [SHAPES[what][0] for what in self._whats]
        self._like_ext4 = bool(without)
        self._number = 0

    def choose(self, names: Mapping[bytes, str]) -> Step:
        """A step for a tree with these names."""
        what = self._chance.choices(self._whats, self._weights)[0]
        _, kinds, ranges = SHAPES[what]
        paths = tuple(self._path(kind, names) for kind in kinds)
        return self._fitting(Step(what, paths, tuple(self._pick(numbers) for numbers in ranges)))

    def _fitting(self, step: Step) -> Step:
        """On plain ext4 without what an overlay has its own ways with."""
        if self._like_ext4 and step.what == "hold":
            return Step("hold", step.paths, (step.numbers[0], os.O_RDWR))
        if self._like_ext4 and step.what == "rename":
            return Step("rename", step.paths, (step.numbers[0] & ~_WHITEOUT,))
        return step

    def _pick(self, numbers: Numbers) -> int:
        if isinstance(numbers, str):
            self._number += 1
            return self._number
        return self._chance.choice(numbers)

    def _path(self, kind: str, names: Mapping[bytes, str]) -> bytes:
        match kind:
            case "attribute":
                return self._chance.choice(_ATTRIBUTES)
            case "acl":
                return self._chance.choice(_ACLS)
            case "target":
                return self._chance.choice(_TARGETS)
            case "new":
                return self._new(names)
            case "anywhere":
                return self._new(names) if self._chance.random() < 0.5 else self._path("any", names)
            case "any":
                return self._chance.choice(list(names))
            case "below":
                places = [path for path, found in names.items() if found == "directory" and path.count(b"/") > 1]
                return self._chance.choice(places) if places else b"/none"
            case _:
                fitting = [path for path, found in names.items() if found == kind]
                return self._chance.choice(fitting) if fitting else b"/none"

    def _new(self, names: Mapping[bytes, str]) -> bytes:
        places = [path for path, found in names.items() if found == "directory" and path.count(b"/") < _DEEP]
        return os.path.join(self._chance.choice(places), self._chance.choice(_NAMES))


def is_refused(outcome: object) -> bool:
    """Whether a step's outcome is an error."""
    return isinstance(outcome, str) and outcome in errno.errorcode.values()
