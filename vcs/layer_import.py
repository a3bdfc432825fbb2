"""An image layer, a tar archive of changes -> a new root (OCI image specification, layer.md). Nothing is extracted.

A member is a file as in any archive (vcs.tar_import), but for these names, which end here:

    .wh.NAME        the root below has no NAME in this directory
    .wh..wh..opq    nothing of this directory of the root below is seen
    .wh..wh.aufs, .wh..wh.orph, .wh..wh.plnk   at the top: what AUFS kept for itself, and old images still have

Any other name that begins so is refused, and so is what would lie below one.
"""

from __future__ import annotations

import stat

from vcs.errors import BadInput
from vcs.importresult import ImportResult
from vcs.layer_assembly import LayerBuilder
from vcs.model import RootId
from vcs.progress import Progress
from vcs.snapshot import split_path
from vcs.tar.reader import Member, TarReader
from vcs.tar.stream import Readable
from vcs.tar_import import Members
from vcs.trees import Objects, Sink

_PREFIX = b".wh."
_OPAQUE = b".wh..wh..opq"
_OF_AUFS = (b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk")


def import_layer(
    stream: Readable, objects: Objects, sink: Sink, base: RootId | None, *, progress: Progress | None = None
) -> ImportResult:
    """Write the root that a layer makes of a base (None: of nothing), whose objects are in `objects`.

    The stream is read once, to its end, and is not compressed (see vcs.decompress). It may end without an archive's
    end: that all of it is there is the caller's to see. BadInput, with the member and the byte, for whatever is wrong
    with it. The same layer on the same base gives the same root.
    """
    reader = TarReader(stream, needs_end=False)
    builder = LayerBuilder(objects, base)
    members = Members(reader, sink, builder, progress)
    for member in reader:
        try:
            if not _is_sign(member, builder):
                members.add(member)
        except BadInput as error:
            raise reader.error(error) from error
    return members.result(lambda: builder.finish(sink))


def _is_sign(member: Member, builder: LayerBuilder) -> bool:
    """Whether a member is no file, but says what is hidden; the builder then knows."""
    if _PREFIX not in member.name:
        return False
    *above, name = split_path(member.name) or [b""]
    if (above or [name])[0] in _OF_AUFS:
        return True
    if any(directory.startswith(_PREFIX) for directory in above):
        raise BadInput("it lies below a name that says what is deleted")
    if not name.startswith(_PREFIX):
        return False
    if member.type not in (stat.S_IFREG, 0):
        raise BadInput("it is named as what says that something is deleted, and is no file")
    directory = b"/".join(above)
    hidden = name.removeprefix(_PREFIX)
    if name == _OPAQUE:
        builder.hide_all(directory)
    elif hidden in (b"", b".", b"..") or hidden.startswith(_PREFIX):
        raise BadInput(f"{hidden!r} is no name that could be deleted")
    else:
        builder.hide(directory + b"/" + hidden)
    return True
