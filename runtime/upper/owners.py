"""The owners of files in the upper of a container that has ids of its own (runtime.idranges), as it sees them itself.

The overlay is not idmapped, so the kernel writes the machine's ids into the upper: of a file's owner and group, in its
access lists (acl(5); linux/posix_acl_xattr.h), and of the root to whom its capabilities belong (capabilities(7);
version 3 of linux/capability.h's vfs_cap_data). Ids that are not the container's are shown to it as nobody's, and so
they are committed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from msgspec.structs import replace

from runtime.idranges import SIZE
from vcs.model import Entry, Xattrs

NOBODY = 65534
"""The kernel's overflow id (/proc/sys/kernel/overflowuid)."""

_ACLS = (b"system.posix_acl_access", b"system.posix_acl_default")
_ACL_HEADER, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")
_ACL_NAMED = (0x02, 0x08)
"""ACL_USER and ACL_GROUP, the two sorts of entries that name an id."""
_CAPABILITY = b"security.capability"
_CAP_3 = struct.Struct("<IIIIII")
_CAP_REVISION, _CAP_REVISION_2, _CAP_REVISION_3 = 0xFF000000, 0x02000000, 0x03000000


@dataclass(frozen=True, slots=True)
class Owners:
    """The ids of a container: `first` on the machine is its 0."""

    first: int

    def inside(self, number: int) -> int:
        """What an id of the machine is in the container."""
        return number - self.first if self.first <= number < self.first + SIZE else NOBODY

    def seen_from_inside(self, entry: Entry) -> Entry:
        """The entry with the container's ids."""
        xattrs = self._xattrs(entry.xattrs) if entry.xattrs else entry.xattrs
        return replace(entry, uid=self.inside(entry.uid), gid=self.inside(entry.gid), xattrs=xattrs)

    def _xattrs(self, xattrs: Xattrs) -> Xattrs:
        return tuple((name, self._value(name, value)) for name, value in xattrs)

    def _value(self, name: bytes, value: bytes) -> bytes:
        if name in _ACLS and (len(value) - _ACL_HEADER.size) % _ACL_ENTRY.size == 0:
            entries = _ACL_ENTRY.iter_unpack(value[_ACL_HEADER.size :])
            shifted = ((tag, mode, self.inside(who) if tag in _ACL_NAMED else who) for tag, mode, who in entries)
            return value[: _ACL_HEADER.size] + b"".join(_ACL_ENTRY.pack(*entry) for entry in shifted)
        if name == _CAPABILITY and len(value) == _CAP_3.size:
            magic, *sets, root = _CAP_3.unpack(value)
            if magic & _CAP_REVISION == _CAP_REVISION_3 and root == self.first:
                return _CAP_3.pack(magic & ~_CAP_REVISION | _CAP_REVISION_2, *sets, 0)[:-4]
        return value
