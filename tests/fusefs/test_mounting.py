"""What the mount table says."""

from __future__ import annotations

import pytest

from fusefs import mounting
from fusefs.mounting import Mount, parse_mount
from vcs.errors import StoreError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n",
            Mount("98:0", b"/mnt1", b"/mnt2", "ext3", b"/dev/root"),
        ),
        (
            b"80 35 0:42 / /a\\040b\\134c\\012\\011 ro - fuse.treering treering:/s\\040t ro\n",
            Mount("0:42", b"/", b"/a b\\c\n\t", "fuse.treering", b"treering:/s t"),
        ),
        (b"1 2 0:1 / /x\xff rw shared:1 master:2 - tmpfs none rw\n", Mount("0:1", b"/", b"/x\xff", "tmpfs", b"none")),
    ],
)
def test_a_line_of_mountinfo(line: bytes, expected: Mount) -> None:
    assert parse_mount(line) == expected


def test_the_table_is_read_whole() -> None:
    found = mounting.mounts()
    assert any(mount.point == b"/" for mount in found)
    assert mounting.mount_at(mounting.DEVICE) is None


def test_what_cannot_be_unmounted_says_why() -> None:
    with pytest.raises(StoreError) as caught:
        mounting.unmount(mounting.DEVICE)
    assert caught.value.facts["errno"]
