"""A store with one root, and a kernel that has it mounted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fusefs.fake_kernel import FakeKernel
from tests.fusefs.sample_root import sample
from vcs.testing import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def kernel(store: MemoryStore) -> Iterator[FakeKernel]:
    made = store.add_commit(sample(store), "main")
    store.branch_map["topic/one"] = made
    store.tag_map["v1"] = made
    with FakeKernel(store) as kernel:
        yield kernel
