"""A worker: the process that answers the kernel. The holder (service.py) starts it, and another when it dies.

It inherits the descriptor of /dev/fuse itself, not a clone: the requests of a clone are aborted with its process. It
opens the store, says so, and waits until it is told to serve; a spare one waits there, with all libraries loaded. From
then on it is only told of containers that start (startings.py). What it does is seen in the request memory, and SIGTERM
makes it leave once it has answered what it has in hand.

    holder -> worker   {"slot": 3}        serve, in this slot
    worker -> holder   {"opened": true}   or {"failed": {"kind", "message", "facts"}}
                       {"serving": true}  what INIT agrees on is known

When the channel ends, the holder is gone: from then on workers look after one another (orphans.py).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from fusefs import orphans
from fusefs.datalayer import DataLayer
from fusefs.detached import failure
from fusefs.filesystem import FileSystem
from fusefs.journal import Journal
from fusefs.lookout import lookout
from fusefs.memory import RequestMemory, Slot
from fusefs.readahead import ReadAhead
from fusefs.scattered import PlainCopies
from fusefs.session import Session
from fusefs.starts import Starts
from fusefs.wakefulness import Wakefulness, is_of_use
from vcs.errors import StoreError, TreeringError
from vcs.snapshot import Source
from vcs.stillborn import UNSTARTED, stillborn_threads_are_heard

_log = logging.getLogger(__name__)
_Helper = TypeVar("_Helper")

ENDED = 0
"""Exit code: the file system is unmounted everywhere."""
LEFT = 64
"""Exit code: told to leave."""
FAILED = 1


class Opener(Protocol):
    """Opens a store for somebody who reads all of it, a file after the other (`read_ahead`)."""

    def __call__(self, path: Path, /, *, read_ahead: bool) -> Source: ...


def load_opener(name: str) -> Opener:
    """The function that `module:attribute` names. StoreError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise StoreError(f"{name!r} opens no store: {error}", opener=name) from error
    return cast(Opener, found)


def main(arguments: Sequence[str]) -> int:
    """Run as a program; the argument is what workers.py has written."""
    given: dict[str, Any] = json.loads(arguments[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s")
    if given["trace"]:
        logging.getLogger("fusefs.trace").setLevel(logging.DEBUG)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("0")  # not the holder's, which is to live longest
    channel = socket.socket(fileno=given["channel"])
    try:
        source, filesystem = _open(given)
    except (TreeringError, OSError) as error:
        _say(channel, {"failed": failure(error)})
        return FAILED
    _say(channel, {"opened": True})
    if given["spare"]:
        with suppress(TreeringError, OSError):
            source.commit("0" * 40)  # not there, but git's library is then, which takes longer than all else
    # What is there now stays, and requests make no cycles: the collector would look through all nodes for nothing. It
    # is not turned off, since what a failed request leaves behind may be one.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
    lines = channel.makefile("rb")
    memory = RequestMemory(given["memory"])
    line = _next(lines)
    slot = memory.slot(json.loads(line)["slot"]) if line else orphans.next_vacancy(memory)
    if slot is None:
        return LEFT  # the holder is gone, and nothing is served
    slot.owner = os.getpid()
    with stillborn_threads_are_heard():
        listening = (given, lines, channel, source, filesystem.layer, memory)
        try:
            threading.Thread(target=_listen, args=listening, name="starts", daemon=True).start()
        except UNSTARTED as error:
            _log.error("there is not enough memory for a thread: %s", error)
            return FAILED
        return _serve(given["device"], filesystem, slot, channel, source)


def _next(lines: BinaryIO) -> bytes:
    """What the holder says next; nothing once it is gone. That is a reset if it had not read what we said last."""
    try:
        return lines.readline()
    except ConnectionResetError:
        return b""


def _open(given: dict[str, Any]) -> tuple[Starts, FileSystem]:
    """The store and what is served of it. TreeringError or OSError."""
    source = Starts(load_opener(given["opener"])(Path(given["store"]), read_ahead=True))
    store = Path(given["store"])
    layer = None if given["data"] is None else DataLayer(store, Path(given["data"]))
    if layer is not None:
        source.parts, layer.told = layer.parts, source.note_copy
    journal, copies = Journal(given["journal"]), PlainCopies(store)
    return source, FileSystem(source, given["uid"], given["gid"], given["time"], journal, copies, layer)


def _listen(
    given: dict[str, Any],
    lines: BinaryIO,
    channel: socket.socket,
    starts: Starts,
    layer: DataLayer | None,
    memory: RequestMemory,
) -> None:
    """The thread: follow the starts that the holder tells of. Once it is gone, answer for workers that die."""
    for line in iter(partial(_next, lines), b""):
        if layer is not None:
            layer.look_again()
        try:
            reply = starts.told(json.loads(line))
        except Exception:
            _log.exception("%s", line)
            continue
        if reply is not None:
            _say(channel, reply)
    _log.warning("the holder is gone: workers that die are not replaced any more")
    orphans.answer_for_the_dead(memory, lambda request: _answer(given, memory, request))


def _answer(given: dict[str, Any], memory: RequestMemory, request: bytes) -> None:
    """Answer what another worker had in hand, beside what this one serves: with a store and nodes of its own."""
    own = RequestMemory(-1)
    if memory.negotiated is not None:
        own.negotiated = memory.negotiated
    slot = own.slot(0)
    slot.request = request
    try:
        Session(given["device"], _open(given)[1], slot=slot).replay()
    except Exception:
        _log.exception("what a dead worker had in hand is not answered")


def helper(make: Callable[[], _Helper]) -> _Helper | None:
    """What makes serving faster, with a thread of its own; None if none can be had: readers get all without it."""
    try:
        return make()
    except UNSTARTED as error:
        _log.warning("files are served more slowly than they might be: %s", error)
        return None


def _serve(device: int, filesystem: FileSystem, slot: Slot, channel: socket.socket, starts: Starts) -> int:
    ahead = helper(lambda: ReadAhead(device, filesystem))
    awake = helper(lambda: Wakefulness(lambda: session.served)) if is_of_use() else None
    session = Session(device, filesystem, ahead, awake, slot, starts, lookout(device))
    _say(channel, {"up": True})

    def leave(_number: int, _frame: FrameType | None) -> None:
        # With nothing in hand we wait for a request. The kernel puts the next one where this looks, and gives it to
        # another worker if we go before.
        session.leaving = True
        if not slot.length:
            os._exit(LEFT)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a process that makes a plain copy
    filesystem.numbers.catch_up()
    try:
        if session.replay():
            session.negotiate()
            _say(channel, {"serving": True})
            session.serve()
    except StoreError as error:
        _log.error("%s", error)
    # Without waiting for threads: one may wait for a page that a successor brings.
    os._exit(LEFT if session.leaving else ENDED)


def _say(channel: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # the holder is gone: whoever is inside is served on
        channel.sendall(json.dumps(message, default=str).encode() + b"\n")
