"""The native driver: a FUSE connection, one message at a time. A protocol adapter only; meaning is in filesystem.py.

One thread reads a request, calls the handler of its operation and writes the reply. A handler returns the reply's body,
or an errno, or nothing where the protocol has no reply; whatever it raises becomes an errno (failures.py).

Requests are served in the order of arrival, so an INTERRUPT finds its request answered or not yet read; the kernel
drops the latter itself.

Several sessions, each in a process of its own, may serve one connection. A request is read straight into its session's
slot of the request memory (memory.py), where it outlives the process; nothing that an answer needs is in the process
alone, so whichever session gets a request can answer it, also a second time.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from typing import TypeAlias

from fusefs.dirents import Dirents
from fusefs.failures import Failures
from fusefs.filesystem import BLOCK_SIZE, NAME_MAX, FileSystem, attributes
from fusefs.inodes import Folder, Node
from fusefs.lookout import Lookout
from fusefs.memory import REQUEST_SIZE, RequestMemory, Slot
from fusefs.negotiation import MAX_WRITE, Capabilities, negotiate
from fusefs.readahead import ReadAhead
from fusefs.starts import Starts
from fusefs.trace import Reply, name_of, trace_line
from fusefs.wakefulness import BURST, Wakefulness
from fusefs.wire import replies, requests
from fusefs.wire.protocol import (
    KERNEL_VERSION,
    MIN_READ_BUFFER,
    OLDEST_MINOR_VERSION,
    Init,
    Opcode,
    OpenFlag,
)
from fusefs.wire.replies import ENDLESS
from fusefs.wire.requests import Malformed
from vcs.errors import StoreError

_log = logging.getLogger(__name__)
_trace = logging.getLogger("fusefs.trace")

Handler: TypeAlias = Callable[[int, bytes], Reply]

_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED})
_PASSING = frozenset({errno.ENOENT, errno.EAGAIN, errno.EINTR})
_PARTS_MOST = 64
"""The most parts of a reply; writev(2) takes 1,024, and the kernel takes many small ones no faster than one."""

_WRITING = (
    *(Opcode.SETATTR, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME),
    *(Opcode.RENAME2, Opcode.LINK, Opcode.WRITE, Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.CREATE),
    *(Opcode.FALLOCATE, Opcode.COPY_FILE_RANGE, Opcode.TMPFILE),
)


class Session:
    """A connection being served. Not safe for several threads."""

    def __init__(
        self,
        device: int,
        filesystem: FileSystem,
        read_ahead: ReadAhead | None = None,
        wakefulness: Wakefulness | None = None,
        slot: Slot | None = None,
        starts: Starts | None = None,
        lookout: Lookout | None = None,
    ) -> None:
        """`device` is a descriptor of /dev/fuse, or anything that keeps messages apart; it stays the caller's.

        If `slot` is of a memory in which another session has left what was negotiated, this one goes on from there.
        `starts` is what the file system reads through.
        """
        assert max(MIN_READ_BUFFER, MAX_WRITE + 4096) <= REQUEST_SIZE
        self._device = device
        self._fs = filesystem
        self._nodes = filesystem.table.nodes
        self._ahead = read_ahead
        self._wakefulness = wakefulness
        self._starts = starts
        self._lookout = lookout
        self._begun: Node | None = None
        """The file whose beginning the present message reads."""
        self._head: bytes | memoryview = b""
        """The beginning."""
        self._within: tuple[Node, int, int] | None = None
        """The file of which it reads something else, where and how much."""
        self._dirents = Dirents(filesystem, self._tell)
        self._walks = self._dirents.walks
        self._slot = slot or RequestMemory(-1).slot(0)
        self._slot.touch()
        self._failures = Failures()
        self._tracing = _trace.isEnabledFor(logging.DEBUG)
        self.capabilities: Capabilities | None = None
        """What INIT agreed on; None before."""
        self.served = 0
        """How many messages were taken."""
        self.leaving = False
        """Set to have the session end when it has answered what it has in hand."""
        self._handlers = self._table()
        if self._slot.memory.negotiated is not None:
            self._agreed(Capabilities(*self._slot.memory.negotiated))

    def negotiate(self) -> None:
        """Serve until the kernel and we have agreed on a protocol. StoreError if the connection ends before."""
        while self.capabilities is None:
            if not self.step():
                raise StoreError("the FUSE connection ended before it began")

    def serve(self) -> None:
        """Serve until the file system is unmounted everywhere, or the session is told to leave."""
        while not self.leaving and self.step():
            pass

    def replay(self) -> bool:
        """Answer what a predecessor has left in the slot. False at the connection's end."""
        length = self._slot.length
        return not length or self._serve(length)

    def step(self) -> bool:
        """Take one message and answer it; waits for it. False at the connection's end."""
        if self._lookout is not None:
            self._lookout.look()
        try:
            length = os.readv(self._device, (self._slot.buffer,))
        except OSError as error:
            if error.errno in _ENDED:
                return False
            if error.errno in _PASSING:
                return True
            raise
        return bool(length) and self._serve(length)

    def _serve(self, length: int) -> bool:
        """Answer the message in the slot."""
        reply = self.answer(self._slot.buffer[:length])
        if reply:
            try:
                os.writev(self._device, reply)
            except OSError as error:
                if not self._refused(reply, error):
                    return False
        if self._begun is not None:
            assert self._ahead is not None
            if not self._ahead.was_read(self._begun):
                self._fs.was_begun(self._begun, self._head)
            self._begun, self._head = None, b""
        elif self._within is not None:
            assert self._ahead is not None
            self._ahead.was_read_within(*self._within)
            self._within = None
        given = 0 if self._ahead is None else self._ahead.given
        profiled = 0 if self._starts is None else self._starts.profiled
        self._slot.done(self.served, len(self._nodes), given, profiled)
        self._walks.go_on()
        if self._wakefulness is not None and not self.served % BURST:
            self._wakefulness.noticed()
        return True

    def _refused(self, reply: Sequence[bytes | memoryview], error: OSError) -> bool:
        """A reply was not taken: tell the caller so, who would wait for ever. False at the connection's end.

        The kernel takes a reply whole or not at all. Where it cannot even look at it (too little memory for its parts,
        or a header that makes no sense to it), the request stays as it was. Else the kernel has failed the request by
        itself, and does not know it any more (ENOENT). If not even that little can be said, what is raised ends the
        session, and the request is left in the slot to a successor.
        """
        if error.errno in _ENDED:
            return False
        if error.errno == errno.ENOENT:
            return True  # nobody waits for it any more, or another session was asked the same and was faster
        _log.error("a reply was refused: %s", error)
        _, _, unique = replies.HEADER.unpack_from(reply[0])
        try:
            os.write(self._device, replies.error(unique, errno.EIO))
        except OSError as again:
            if again.errno in _ENDED:
                return False
            if again.errno != errno.ENOENT:
                raise
        return True

    def answer(self, message: memoryview) -> Sequence[bytes | memoryview] | None:
        """The reply to a message, header and body in parts, or None if there is none. Raises nothing."""
        self.served += 1
        try:
            length, opcode, unique, nodeid, *_ = requests.HEADER.unpack_from(message)
            if length != len(message):
                raise Malformed(f"{len(message)} bytes that say they are {length}")
        except Exception as error:
            _log.error("not a request: %s", error)
            return None
        handler = self._handlers.get(opcode)
        if handler is None:
            result: Reply = errno.ENOSYS
        else:
            try:
                result = handler(nodeid, bytes(message[requests.HEADER_SIZE :]))
            except Exception as error:
                result = self._failure(opcode, nodeid, error)
        if self._tracing:
            _trace.debug("%s", trace_line(opcode, unique, nodeid, message, result))
        if result is None:
            return None
        if type(result) is int:
            return (replies.error(unique, result),)
        if type(result) is list:
            return [replies.header(replies.HEADER_SIZE + sum(map(len, result)), 0, unique), *result]
        return replies.header(replies.HEADER_SIZE + len(result), 0, unique), result  # type: ignore[arg-type, return-value]

    def _tell(self, message: bytes) -> None:
        """Tell the kernel something unasked; whether it knows the node (ENOENT) does not matter."""
        try:
            os.write(self._device, message)
        except OSError as error:
            if error.errno != errno.ENOENT:
                _log.warning("a notification was refused: %s", error)

    def _failure(self, opcode: int, nodeid: int, error: Exception) -> int:
        return self._failures.errno_of(error, "%s of node %d", name_of(opcode), nodeid)

    def _table(self) -> dict[int, Handler]:
        table: dict[int, Handler] = {
            Opcode.INIT: self._init,
            Opcode.LOOKUP: self._lookup,
            Opcode.GETATTR: self._getattr,
            Opcode.READLINK: self._readlink,
            Opcode.READ: self._read,
            Opcode.READDIR: self._readdir,
            Opcode.READDIRPLUS: self._readdirplus,
            Opcode.GETXATTR: self._getxattr,
            Opcode.LISTXATTR: self._listxattr,
            Opcode.STATFS: self._statfs,
            Opcode.LSEEK: self._lseek,
            Opcode.FORGET: self._forget,
            Opcode.BATCH_FORGET: self._batch_forget,
            Opcode.INTERRUPT: self._nothing,
            Opcode.NOTIFY_REPLY: self._nothing,
            Opcode.DESTROY: self._done,
            Opcode.RELEASE: self._done,
            Opcode.RELEASEDIR: self._done,
        }
        table.update(dict.fromkeys(_WRITING, _refuse))
        return {int(opcode): handler for opcode, handler in table.items()}

    # -- the connection

    def _init(self, _nodeid: int, body: bytes) -> Reply:
        request = requests.init(body)
        if request.major > KERNEL_VERSION:
            return replies.init_other_version()
        if request.major < KERNEL_VERSION or request.minor < OLDEST_MINOR_VERSION:
            _log.error("the kernel's protocol %d.%d is too old", request.major, request.minor)
            return errno.EPROTO
        agreed, reply = negotiate(request)
        self._slot.memory.negotiated = agreed.flags, agreed.minor  # before the kernel knows: no later session is asked
        self._agreed(agreed)
        return reply

    def _agreed(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        # Answered with ENOSYS once, OPEN and OPENDIR are never asked again. A kernel that would fail then gets a reply.
        if not self.capabilities.has(Init.NO_OPEN_SUPPORT):
            self._handlers[Opcode.OPEN] = self._open
        if not self.capabilities.has(Init.NO_OPENDIR_SUPPORT):
            self._handlers[Opcode.OPENDIR] = self._opendir

    def _open(self, _nodeid: int, _body: bytes) -> Reply:
        return replies.opened(OpenFlag.KEEP_CACHE)

    def _opendir(self, _nodeid: int, _body: bytes) -> Reply:
        return replies.opened(OpenFlag.KEEP_CACHE | OpenFlag.CACHE_DIR)

    def _nothing(self, _nodeid: int, _body: bytes) -> Reply:
        return None

    def _done(self, _nodeid: int, _body: bytes) -> Reply:
        return b""

    def _statfs(self, _nodeid: int, _body: bytes) -> Reply:
        return replies.statfs(BLOCK_SIZE, NAME_MAX)

    # -- nodes

    def _lookup(self, nodeid: int, body: bytes) -> Reply:
        parent = self._fs.node(nodeid)
        node = self._fs.lookup(parent, requests.name(body))
        if node is None:
            return replies.no_entry(ENDLESS) if parent.missing_endless else errno.ENOENT
        return replies.entry(attributes(node), ENDLESS if node.name_endless else 0, ENDLESS)

    def _getattr(self, nodeid: int, _body: bytes) -> Reply:
        return replies.attributes(ENDLESS, attributes(self._fs.node(nodeid)))

    def _readlink(self, nodeid: int, _body: bytes) -> Reply:
        return self._fs.target(self._fs.node(nodeid))

    def _read(self, nodeid: int, body: bytes) -> Reply:
        offset, size = requests.read(body)
        node = self._fs.node(nodeid)
        data = self._fs.parts(node, offset, size)
        if self._lookout is not None:
            self._lookout.was_read()
        if self._ahead is not None:
            if offset:
                self._within = node, offset, size
            else:
                self._begun, self._head = node, data[0] if data else b""
        if len(data) == 1:
            return data[0]
        return list(data) if len(data) <= _PARTS_MOST else b"".join(data)

    def _lseek(self, nodeid: int, body: bytes) -> Reply:
        offset, whence = requests.lseek(body)
        return replies.position(self._fs.seek(self._fs.node(nodeid), offset, whence))

    def _getxattr(self, nodeid: int, body: bytes) -> Reply:
        node = self._fs.node(nodeid)
        if type(node) is not Folder:
            self._dirents.file_was_asked_for()
        # Overlayfs asks this of every directory and file that it looks up: the usual answer comes first.
        if not node.entry.xattrs and not self._fs.asks_layer(node, body[8:-1]):
            return errno.ENODATA
        size, name = requests.getxattr(body)
        value = self._fs.xattr(node, name)
        return errno.ENODATA if value is None else _fitting(value, size)

    def _listxattr(self, nodeid: int, body: bytes) -> Reply:
        names = replies.names(list(self._fs.xattrs(self._fs.node(nodeid))))
        return _fitting(names, requests.listxattr(body))

    def _forget(self, nodeid: int, body: bytes) -> Reply:
        self._fs.forget(nodeid)
        return None

    def _batch_forget(self, _nodeid: int, body: bytes) -> Reply:
        forget = self._fs.forget
        for nodeid, _ in requests.batch_forget(body):
            forget(nodeid)
        return None

    # -- directories

    def _readdirplus(self, nodeid: int, body: bytes) -> Reply:
        offset, size = requests.read(body)
        return self._dirents.plus(self._fs.node(nodeid), offset, size)

    def _readdir(self, nodeid: int, body: bytes) -> Reply:
        offset, size = requests.read(body)
        return self._dirents.names(self._fs.node(nodeid), offset, size)


def _fitting(value: bytes, size: int) -> Reply:
    """An extended attribute's value, or how long it is, or that the caller's buffer is too small."""
    if not size:
        return replies.size(len(value))
    return errno.ERANGE if len(value) > size else value


def _refuse(_nodeid: int, _body: bytes) -> Reply:
    return errno.EROFS
