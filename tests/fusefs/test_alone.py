"""Pages of a large file that does not compress, through a real mount: they come alone out of a real store."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from benchmarks.residency import resident
from tests.fusefs.served import service
from tests.fusefs.serving import commit, needs_fuse
from tests.support.values import file
from vcs.blobs import BlobWriter
from vcs.check import check
from vcs.model import Chunked
from vcs.store import Store

PAGE = 4096
SIZE = 4096 * PAGE
pytestmark = needs_fuse


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def store(tmp_path: Path, content: bytes) -> Path:
    with Store.create(tmp_path / "store") as store:
        with store.batch() as batch:
            writer = BlobWriter(batch)
            writer.feed(content)
            found = writer.finish()
        assert isinstance(found, Chunked)
        commit(store, {"large": file(found)})
    return tmp_path / "store"


def read(path: Path, places: list[int], size: int = PAGE) -> list[bytes]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        return [os.pread(descriptor, size, place) for place in places]
    finally:
        os.close(descriptor)


def test_only_what_is_asked_for_comes(store: Path, content: bytes) -> None:
    chance = random.Random(3)
    places = [chance.randrange(SIZE // PAGE) * PAGE for _ in range(20)]
    with service(store) as served:
        path = served.top / "branches/main/large"
        assert read(path, places) == [content[place : place + PAGE] for place in places]
        assert resident(path) == len(set(places)) * PAGE
        odd = [place + 1000 for place in places]
        assert read(path, odd, 20_000) == [content[place : place + 20_000] for place in odd]
        assert path.read_bytes() == content
    with Store.open(store) as opened:
        assert check(opened).problems == []
