"""A container's standard streams, from its engine's start to its last byte: who reads and writes them.

    lent          the streams of the process that ran the container; the container never gets these themselves as
                  output, for it could read and change a file or terminal, but pipes that are copied to them
    log           gets everything, if one is kept
    attached      further readers and writers, who come and go

A container without a terminal gets pipes. Those of a detached one are opened for reading and writing: the container is
a reader of its own output, so it can print on when its supervisor is killed, until the pipe is full, and another
supervisor finds the pipe and goes on (take_over). Those of any other end with their readers, as in a shell.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from runtime.log import LogWriter
from runtime.system.descriptors import duplicate, same_file
from runtime.system.streams import Input, Lost, Output, Sink

STDOUT, STDERR = "stdout", "stderr"


@dataclass(frozen=True, slots=True)
class Lent:
    """The caller's standard streams, moved out of the way; None where there is none."""

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None

    def copy(self) -> Lent:
        """The same streams again, for a run that closes them at its end."""
        return Lent(*(None if fd is None else duplicate(fd) for fd in (self.stdin, self.stdout, self.stderr)))


class StdioState(NamedTuple):
    """Which descriptors a quiet Stdio has."""

    streams: tuple[str, ...]
    has_stdin: bool
    has_terminal: bool


def take_streams(stdin: bool, output: bool, instead: int | None) -> Lent:
    """Move the process's own streams out of the way, /dev/null in their place. `instead` is a descriptor that takes
    both outputs."""
    source = duplicate(0) if stdin else None
    if instead is not None:
        lent = Lent(source, duplicate(instead), duplicate(instead))
    else:
        lent = Lent(source, duplicate(1), duplicate(2)) if output else Lent(source)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in (0, 1, 2):
        os.dup2(null, number)
    if null > 2:
        os.close(null)
    return lent


class Stdio:
    """The streams of one run of a container, and everybody at the other end of them."""

    def __init__(self, lent: Lent, log: LogWriter | None, *, detached: bool, interactive: bool) -> None:
        self._lent = lent
        self._log = log
        self._detached = detached
        self._interactive = interactive
        self._made: list[tuple[str, int, tuple[int, ...]]] = []
        """Stream, reading end of its pipe, and where it is to be copied."""
        self._outputs: dict[str, Output] = {}
        self._inputs: list[Input] = []
        self._stdin: int | None = None
        """Where the container's standard input is written to."""
        self.master: int | None = None
        """The other side of the container's terminal."""
        self.failure: OSError | None = None
        self._owner: Input | None = None
        """The caller's side of the terminal: when it ends, the container is hung up."""

    # -- before the container runs

    def engine_streams(self) -> tuple[int | None, int | None, int | None]:
        """What the engine is to be started with; the caller closes them when that is done. None means /dev/null."""
        lent = self._lent
        stdin = self._feed()
        if lent.stdout is None and lent.stderr is None and self._log is None:
            return stdin, None, None
        if same_file(lent.stdout, lent.stderr):  # one pipe for both keeps the order of what goes to one place
            assert lent.stderr is not None
            os.close(lent.stderr)
            both = self._pipe(STDOUT, lent.stdout)
            return stdin, both, both
        return stdin, self._pipe(STDOUT, lent.stdout), self._pipe(STDERR, lent.stderr)

    def _pipe(self, stream: str, sink: int | None) -> int | None:
        if sink is None and self._log is None:
            return None
        reader, writer = os.pipe2(os.O_CLOEXEC)
        if self._detached:
            both = os.open(f"/proc/self/fd/{writer}", os.O_RDWR | os.O_CLOEXEC)
            os.close(writer)
            writer = both
        self._made.append((stream, reader, () if sink is None else (sink,)))
        return writer

    def _feed(self) -> int | None:
        """The container's standard input. A file or pipe is passed on itself: not a byte more than wanted is read from
        it. Whoever holds a terminal can read all that is typed, and write to it: so between it and the container there
        is a pipe."""
        source = self._lent.stdin
        if source is None and self._interactive and self._detached:
            reader, self._stdin = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._stdin, False)
            return reader
        if source is not None and os.isatty(source):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(writer, False)
            self._inputs.append(Input(source, writer, terminal=False, closes=True))
            return reader
        return source

    # -- when it runs

    def begin(self) -> None:
        """From here on the container's output flows. Not earlier: the engine's own complaints are in the same pipe."""
        owned = not self._detached
        for stream, reader, lent in self._made:
            output = Output(reader, self._logging(stream), last_reader=owned)
            output.sinks += [Sink(fd, owner=True) for fd in lent]
            self._outputs[stream] = output

    def begin_terminal(self, master: int) -> socket.socket | None:
        """The same for a terminal, of which `master` is the other side; returns the caller's end of it, if there is
        one who waits."""
        self.master = self._stdin = master
        os.set_blocking(master, False)
        output = self._outputs[STDOUT] = Output(os.dup(master), self._logging(STDOUT))
        if self._lent.stdout is not None:
            output.sinks.append(Sink(self._lent.stdout))
        if self._lent.stderr is not None:
            os.close(self._lent.stderr)
        return None if self._detached else self.attach_terminal(owner=True)

    def take_over(self, readers: Iterable[tuple[str, int]]) -> None:
        """Go on with the pipes of a container whose supervisor was killed."""
        for stream, reader in readers:
            self._outputs[stream] = Output(reader, self._logging(stream))

    # -- handed from process to process

    @property
    def is_quiet(self) -> bool:
        """Whether nobody is attached, and nothing on its way."""
        return not self._inputs and not any(output.sinks for output in self._outputs.values())

    @property
    def fds(self) -> set[int]:
        """All descriptors of a quiet one."""
        found = {output.source for output in self._outputs.values()} | {self._stdin, self.master}
        found |= {self._log.fd} if self._log else set()
        return {fd for fd in found if fd is not None}

    def state(self) -> tuple[StdioState, list[int]]:
        """What another process needs to go on with a quiet one, and the descriptors."""
        outputs = [(stream, output.source) for stream, output in self._outputs.items() if output.source is not None]
        fds = [fd for _, fd in outputs]
        state = StdioState(tuple(stream for stream, _ in outputs), self._stdin is not None, self.master is not None)
        return state, fds if self._stdin is None else [*fds, self._stdin]

    @classmethod
    def restored(cls, state: StdioState, fds: Sequence[int], log: LogWriter | None) -> Stdio:
        """One that goes on with what another process had."""
        made = cls(Lent(), log, detached=True, interactive=False)
        made.take_over(zip(state.streams, fds, strict=False))
        if state.has_stdin:
            made._stdin = fds[len(state.streams)]
            made.master = made._stdin if state.has_terminal else None
        return made

    def attach_terminal(self, owner: bool = False, lost: Lost | None = None) -> socket.socket | None:
        """Another reader and writer of the terminal; the descriptor that he reads and writes, and with which he goes.
        None without one."""
        if self.master is None:
            return None
        ours, theirs = socket.socketpair()
        self._outputs[STDOUT].sinks.append(Sink(os.dup(ours.fileno()), owner, lost))
        typed = Input(ours.detach(), self.master, terminal=False, closes=False)
        self._inputs.append(typed)
        if owner:
            self._owner = typed
        return theirs

    def attach(self, stdin: int | None, stdout: int, stderr: int, lost: Lost | None = None) -> list[Sink | Input]:
        """Another reader of the output, and perhaps writer of the input, of a container without a terminal. `lost` is
        called when he cannot be given it any more. Returns what is to be dismissed when he goes."""
        his: list[Sink | Input] = []
        for stream, fd in ((STDERR, stderr), (STDOUT, stdout)):
            if stream in self._outputs:
                sink = Sink(fd, lost=lost)
                self._outputs[stream].sinks.append(sink)
                his.append(sink)
            else:
                os.close(fd)
        if stdin is not None and self._stdin is not None:
            self._inputs.append(typed := Input(stdin, self._stdin, terminal=False, closes=False))
            his.append(typed)
        elif stdin is not None:
            os.close(stdin)
        return his

    def dismiss(self, his: Iterable[Sink | Input]) -> None:
        """Close the streams of somebody who has gone: others may still hold the other ends, who are not to be written
        to, or read from, any more."""
        for each in his:
            each.close()
        for output in self._outputs.values():
            output.forget_closed()
        self._inputs = [each for each in self._inputs if not each.done]

    def hang_up(self) -> None:
        """Take the terminal away: the container's session gets SIGHUP and end of file."""
        if self.master is not None:
            for each in self._inputs:
                each.close()
            self._inputs = []
            self._outputs[STDOUT].close()
            os.close(self.master)
            self.master = self._stdin = None

    def caller_left(self) -> None:
        """The caller has gone without a word: a terminal goes with him."""
        if self._owner is not None:
            self.hang_up()

    def disown(self) -> None:
        """The caller is about to leave, and the container to go on without him."""
        self._owner = None
        self._detached = True

    @property
    def pipes(self) -> tuple[int, ...]:
        """The inodes of the pipes of the output."""
        return tuple(os.fstat(reader).st_ino for _, reader, _ in self._made)

    # -- the loop

    def interests(self) -> dict[int, int]:
        """What to poll for: descriptor -> poll events."""
        wanted: dict[int, int] = {}
        both: list[Output | Input] = [*self._outputs.values(), *self._inputs]
        for each in both:
            for fd, events in each.interests().items():
                wanted[fd] = wanted.get(fd, 0) | events
        return wanted

    def ready(self, fds: Iterable[int]) -> None:
        """Move bytes for descriptors that poll returned."""
        for fd in fds:
            for output in self._outputs.values():
                output.ready(fd)
            for each in self._inputs:
                each.ready(fd)
        if self._owner is not None and self._owner.done:
            self.hang_up()
        self._inputs = [each for each in self._inputs if not each.done]

    def drain(self, patience: float | None = None) -> None:
        """Hand on what was printed until the end. `patience`: seconds to wait for readers, None for ever."""
        self._owner = None  # what he had to say no longer matters, and is no reason to hang up
        for each in self._inputs:
            each.close()
        self._inputs = []
        while not all(output.done for output in self._outputs.values()):
            poll = select.poll()
            wanted = self.interests()
            for fd, events in wanted.items():
                poll.register(fd, events)
            ready = poll.poll(None if patience is None else patience * 1000)
            if not ready or not wanted:
                break
            self.ready(fd for fd, _ in ready)
        self.close()

    def close(self) -> None:
        """Close everything; what was not handed on is lost."""
        for each in self._inputs:
            each.close()
        for output in self._outputs.values():
            output.close()
            for sink in output.sinks:
                sink.close()
        for fd in {self.master, self._stdin}:
            if fd is not None:
                os.close(fd)
        if not self._outputs:
            for _, reader, lent in self._made:
                for fd in (reader, *lent):
                    os.close(fd)
        self.failure = next((output.failure for output in self._outputs.values() if output.failure), self.failure)
        self._inputs, self._outputs, self._made = [], {}, []
        self.master = self._stdin = None
        if self._log:
            self._log.close()

    def _logging(self, stream: str) -> partial[None] | None:
        return partial(self._log.write, stream) if self._log else None


def find_pipes(inodes: Iterable[int], processes: Iterable[int]) -> list[tuple[str, int]]:
    """Reading ends of the pipes with these inodes, found among the descriptors of a container's processes; with the
    streams that they are. OSError if that cannot be told: when they are full, and nobody reads, the container stops.
    """
    links = {f"pipe:[{inode}]": number for number, inode in enumerate(inodes)}
    found: dict[int, int] = {}
    for pid in processes:
        for entry in _descriptors(pid):
            with suppress(FileNotFoundError, ProcessLookupError):  # closed again, or all of it has ended
                number = links.get(os.readlink(entry))
                if number is not None and number not in found:
                    found[number] = os.open(entry, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if len(found) == len(links):
            break
    return [((STDOUT, STDERR)[number], fd) for number, fd in sorted(found.items())]


def _descriptors(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    try:
        return [f"{directory}/{name}" for name in os.listdir(directory)]
    except (FileNotFoundError, ProcessLookupError):
        return []
