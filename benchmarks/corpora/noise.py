"""One file of 1 GiB that does not compress, as films, archives and what is encrypted do not."""

from __future__ import annotations

import os
import random
from pathlib import Path

from benchmarks.corpora.big import NAME, SIZE

_SEED = 20_040_924
_PIECE = 1 << 20


def noise(place: Path, size: int = SIZE) -> None:
    """Make a directory with the one file in it."""
    place.mkdir(0o755)
    chance = random.Random(_SEED)
    with open(place / NAME, "wb") as file:
        for at in range(0, size, _PIECE):
            file.write(chance.randbytes(min(_PIECE, size - at)))
    os.utime(place / NAME, ns=(1_700_000_000 * 10**9,) * 2)
    os.utime(place, ns=(1_700_000_000 * 10**9,) * 2)
