"""A parser of foreign bytes, as something that can be fuzzed."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vcs.errors import TreeringError

CORPUS = Path(__file__).resolve().parent / "corpus"
"""A directory for each target, with inputs that are always tried: what was found once, and what reaches deep."""


@dataclass(frozen=True)
class Target:
    """One parser. Its only outcomes are success and an error that it says it may raise; all else is a finding."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    """Small inputs of every kind that it understands, as our own writers make them."""
    words: tuple[bytes, ...] = ()
    """What is worth inserting anywhere: keywords, magic numbers."""
    refusals: tuple[type[Exception], ...] = field(default=(TreeringError,))
    """TreeringError, but for the few inner parsers whose callers turn another error into one."""

    def __call__(self, data: bytes) -> bool:
        """Try an input; whether it was understood. Raises whatever must not happen."""
        try:
            self.run(data)
        except self.refusals:
            return False
        return True

    def corpus(self) -> list[bytes]:
        """The seeds, and the inputs that are kept."""
        return [*self.seeds(), *(path.read_bytes() for path in sorted((CORPUS / self.name).glob("*")))]


def mutated(data: bytes, others: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> bytes:
    """An input with a few edits: bytes changed, parts removed, doubled, or taken from another input."""
    out = bytearray(data)
    for _ in range(1 << chance.randrange(4)):
        at, size = chance.randrange(len(out) + 1), min(1 << chance.randrange(9), len(out))
        match chance.randrange(8):
            case 0 if out:
                out[at % len(out)] ^= 1 << chance.randrange(8)
            case 1 if out:
                out[at % len(out)] = chance.choice((0, 1, 9, 10, 32, 34, 47, 48, 57, 127, 128, 255))
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size] * (1 + chance.randrange(3))
            case 4 if others:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                out[at : at + size] = other[start : start + size]
            case 5 if words:
                out[at:at] = chance.choice(words)
            case 6 if words:
                word = chance.choice(words)
                out[at : at + len(word)] = word
            case _:
                out[at:at] = chance.randbytes(1 + chance.randrange(4))
    return bytes(out)


def place_of(error: BaseException) -> str:
    """What happened and where: findings of the same place are one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/fuzz/" not in frame.filename]
    last = frames[-1] if frames else None
    where = f"{Path(last.filename).name}:{last.lineno}" if last else "?"
    return f"{type(error).__name__} at {where}"
