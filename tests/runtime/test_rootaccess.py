"""Paths of a root, looked up from outside."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.system.rootaccess import Root
from vcs.errors import EngineError

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(st.one_of(NAMES, st.sampled_from(["..", "."])), min_size=1, max_size=5).map("/".join)
TREES = st.lists(
    st.tuples(PATHS, st.one_of(st.just("dir"), st.just("file"), PATHS, PATHS.map("/{}".format))), max_size=6
)


def make(top: Path, entries: list[tuple[str, str]]) -> None:
    for path, kind in entries:
        place = top / "/".join(name for name in path.split("/") if name not in ("", ".", ".."))
        if place == top or os.path.lexists(place):
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "dir":
                place.mkdir()
            elif kind == "file":
                place.write_text("")
            else:
                place.symlink_to(kind)
        except OSError:
            continue  # below a file, or a link that leads nowhere


@given(TREES, PATHS)
def test_one_look_at_a_real_path_tells_what_a_look_at_each_name_does(entries: list[tuple[str, str]], path: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        top = Path(place, "root")
        top.mkdir()
        make(top, entries)
        fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
        root = Root(fd)
        try:
            with mock.patch.object(Root, "_is_real", return_value=False):
                try:
                    expected: bytes | None = root.resolve(path.encode())
                except EngineError:
                    expected = None
            if expected is None:
                with pytest.raises(EngineError):
                    root.resolve(path.encode())
            else:
                assert root.resolve(path.encode()) == expected
        finally:
            os.close(fd)
