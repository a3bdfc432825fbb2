"""What the engine leaves in an upper for its mounts (stubs): a commit has it where it was used."""

from __future__ import annotations

from tests.runtime.overlay_cases import (
    Layers,
    names,
    needs_root,
)
from vcs.model import EMPTY_FILE

pytestmark = needs_root


STUBS = frozenset({b"/etc/resolv.conf", b"/run", b"/run/x", b"/proc", b"/d/stub", b"/f"})


def test_stubs_that_stayed_empty_leave_no_trace(layers: Layers) -> None:
    (layers.lower / "etc").mkdir()
    with layers.mounted() as merged:
        for directory in ("proc", "run", "run/x"):
            (merged / directory).mkdir()
        (merged / "etc/resolv.conf").touch()
        (merged / "d/stub").touch()
    assert layers.scan().root != layers.base.id
    assert layers.scan(stubs=STUBS).root == layers.base.id


def test_stubs_that_were_used_stay(layers: Layers) -> None:
    with layers.mounted() as merged:
        for directory in ("proc", "run/x"):
            (merged / directory).mkdir(parents=True)
        (merged / "run/x/file").touch()
        (merged / "d/stub").write_text("content")
        (merged / "f").write_text("")
    found = layers.scanned(stubs=STUBS)
    assert names(found) - names(layers.base) == {"/run", "/run/x", "/run/x/file", "/d/stub"}
    assert found.lookup(b"/f").content == EMPTY_FILE


def test_a_directory_with_a_stub_keeps_what_else_changed(layers: Layers) -> None:
    with layers.mounted() as merged:
        (merged / "d/stub").touch()
        (merged / "d/new").touch()
        (merged / "e").chmod(0o700)
        time = (merged / "d").stat().st_mtime_ns
    found = layers.scanned(stubs=STUBS | {b"/e/other"})
    assert names(found) - names(layers.base) == {"/d/new"}
    assert found.lookup(b"/d").mtime == time
    assert oct(found.lookup(b"/e").mode) == "0o40700"


def test_a_directory_above_a_stub_is_none_itself(layers: Layers) -> None:
    (layers.upper / "made/by").mkdir(parents=True)
    (layers.upper / "made/by/stub").touch()
    assert names(layers.scanned(stubs={b"/made/by/stub"})) >= {"/made", "/made/by"}


def test_stubs_beside_hard_links(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        (merged / "d/stub").touch()
    assert layers.scan(stubs=STUBS).root == layers.base.id
