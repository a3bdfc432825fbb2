"""Hard links in uppers and in the roots below them: which names share a file after a commit."""

from __future__ import annotations

import os

from tests.runtime.overlay_cases import (
    Layers,
    mark,
    needs_root,
    text,
    whiteout,
)
from vcs.model import Link

pytestmark = needs_root


def test_a_hard_link_copied_up_alone_is_a_file_of_its_own(layers: Layers) -> None:
    for name in ("d/g2", "d/sub/g3"):
        (layers.lower / name).hardlink_to(layers.lower / "d/g")
    with layers.mounted() as merged:
        (merged / "d/g2").chmod(0o600)
    found = layers.scanned()
    assert found.lookup(b"/d/g2").link is None
    links = [found.lookup(path).link for path in (b"/d/g", b"/d/sub/g3")]
    assert links[0] == links[1]
    assert links[0] is not None
    assert links[0].count == 2
    assert links[0].group == layers.base.lookup(b"/d/g").link.group  # type: ignore[union-attr]
    assert found.root.content.linked == 2  # type: ignore[union-attr]


def test_a_group_of_the_base_that_loses_all_but_one_is_none(layers: Layers) -> None:
    (layers.lower / "d/sub/f").hardlink_to(layers.lower / "f")
    assert layers.base
    whiteout(layers.upper / "d")
    found = layers.scanned()
    assert found.lookup(b"/f").link is None
    assert found.root.content.linked == 0  # type: ignore[union-attr]


def test_a_moved_directory_takes_its_links_along(layers: Layers) -> None:
    (layers.lower / "d/sub/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        (merged / "d").rename(merged / "e/d2")
    found = layers.scanned()
    assert found.lookup(b"/e/d2/sub/f").link == found.lookup(b"/f").link == layers.base.lookup(b"/f").link


def test_a_directory_shown_twice_shows_its_links_twice(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    (layers.upper / "again").mkdir()
    mark(layers.upper / "again", "redirect", b"/d")
    link = layers.scanned().lookup(b"/again/f").link
    assert link is not None
    assert link.count == 3


def test_links_made_in_the_upper(layers: Layers) -> None:
    with layers.mounted() as merged:
        (merged / "f2").hardlink_to(merged / "f")
        (merged / "d/new").write_text("new")
        (merged / "e/new").hardlink_to(merged / "d/new")
        (merged / "link").symlink_to("f")
        os.link(merged / "link", merged / "d/link", follow_symlinks=False)
    found = layers.scanned()
    groups = [found.lookup(path).link for path in (b"/f", b"/f2", b"/d/new", b"/e/new", b"/link", b"/d/link")]
    assert groups[0::2] == groups[1::2]
    assert len({link.group for link in groups if link}) == 3
    assert {link.count for link in groups if link} == {2}
    assert text(found, "/f2") == "base f"


def test_a_group_written_anew_as_it_was_is_no_change(layers: Layers) -> None:
    (layers.lower / "d/f").hardlink_to(layers.lower / "f")
    (layers.lower / "e/f").hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        times = {path: path.stat() for path in (merged, merged / "d", merged / "e", merged / "f")}
        for name in ("f", "d/f", "e/f"):
            (merged / name).unlink()
        (merged / "f").write_text("base f")
        (merged / "d/f").hardlink_to(merged / "f")
        (merged / "e/f").hardlink_to(merged / "f")
        for path, status in times.items():
            os.utime(path, ns=(0, status.st_mtime_ns))
    assert layers.scan().root == layers.base.id


def test_a_group_that_was_split_keeps_its_id_once(layers: Layers) -> None:
    for name in ("d/f", "e/f", "e/g"):
        (layers.lower / name).hardlink_to(layers.lower / "f")
    with layers.mounted() as merged:
        for one, two in (("d/f", "f"), ("e/f", "e/g")):
            (merged / one).unlink()
            (merged / two).unlink()
            (merged / one).touch()
            (merged / two).hardlink_to(merged / one)
    found = layers.scanned()
    groups = {path: found.lookup(path).link for path in (b"/d/f", b"/f", b"/e/f", b"/e/g")}
    assert groups[b"/d/f"] == groups[b"/f"] == Link(layers.base.lookup(b"/f").link.group, 2)  # type: ignore[union-attr]
    assert groups[b"/e/f"] == groups[b"/e/g"] != groups[b"/f"]
