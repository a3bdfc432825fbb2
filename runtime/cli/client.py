"""The thin client: it has a fork server run the command line, and is in the place of the process that does.

    client                                    server                        child of the server
    connect, request with descriptors ──────► accept, fork ───────────────► is all as with the client?
                  ◄─────────────────────────────────── READY pid and socket, or OTHERWISE, or OUTDATED
    START by that socket ─────────────────────────────────────────────────► run the command line
    signals are passed on ────────────────────────────────────────────────►
                  ◄───────────────────────────────────────────────────────── PAGER, with its input
                  ◄───────────────────────────────────────────────────────── EXIT code

A command that a server runs must be no different from one that this process runs itself (the plain way). So whatever is
not answered in time, or not as expected, before START goes the plain way without a word; and nothing happens in the
child before START.

Every import here is paid by every command: no module of the standard library that is written in Python, but `os`, which
every interpreter has loaded (`socket` and `signal` would take 3 ms).
"""

# ruff: noqa: SIM105 -- contextlib is written in Python too

import _signal  # type: ignore[import-not-found]
import _socket
import os
import posix
import sys
import zlib

SWITCH = "TREERING_FORK_SERVER"
"""The environment variable that is 0 where no fork server is wanted."""

PLAIN = -1
"""Not an exit code: this process must run the command line itself."""
ALONE = -2
"""The same, and there is no server, or none of use."""

READY, OTHERWISE, OUTDATED, PAGER, EXIT = b"R", b"O", b"U", b"P", b"E"
START = b"S"
HEAD = 5
"""Bytes of a message from the child: its kind, and a number."""

SECONDS = 1.0
"""How long the client waits for each answer of the server before it goes the plain way."""

_MATTER = (b"PYTHON", b"LC_", b"LANG", b"LD_", b"GLIBC_", b"MALLOC_", b"HOME=", b"XDG_CONFIG_HOME=")
"""How the variables begin that a process looks at once, when it starts."""
_SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM")
_MOST_DESCRIPTORS = 64
_WITH_VALUE = ("--store", "--format", "--at-op")
_MAY_NEED_TERMINAL = ("run", "start", "exec", "attach")
_MAY_SIGN = ("commit", "import", "merge", "revert", "cherry-pick", "tag")
_PLAIN_VERBS = ("unshare", "service")
"""One becomes another program, which the child of a server cannot; the other is for when something is wrong."""


def call(argv: list[str]) -> int:
    """Have a fork server run a command line; its exit code, or PLAIN, or ALONE."""
    if os.environ.get(SWITCH) == "0" or os.getuid() != os.geteuid() or _must_be_plain(argv[1:]):
        return PLAIN
    descriptors = _inherited()
    directory = _open_directory()
    if descriptors is None or directory is None:
        return PLAIN
    if directory < 0:
        return ALONE
    try:
        key = surroundings()
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    except OSError:  # too few descriptors: by itself it may do with those there are
        os.close(directory)
        return PLAIN
    connection.settimeout(SECONDS)
    socket_path = f"/proc/self/fd/{directory}/{name_of(key)}.sock"
    here = -1
    try:
        connection.connect(socket_path)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return _Call(connection).run(_request(argv, key, descriptors), [here, *descriptors])
    except (FileNotFoundError, ConnectionError):
        return ALONE
    except TimeoutError:
        _give_up(socket_path)
        return ALONE
    except OSError:
        return PLAIN
    finally:
        connection.close()
        for fd in (directory, here):
            if fd >= 0:
                os.close(fd)


def _give_up(socket_path: str) -> None:
    """A server that does not answer is to delay one command, not all of them."""
    try:
        os.unlink(socket_path)
    except OSError:
        pass


class _Call:
    """One command line in the hands of a server."""

    def __init__(self, connection: _socket.socket) -> None:
        self._connection = connection
        self._child = -1
        self._signals: list[int] = []

    def run(self, request: bytes, descriptors: list[int]) -> int:
        """The exit code, PLAIN or ALONE; OSError, TimeoutError or ConnectionError before the child has begun."""
        for name in _SIGNALS:
            self._handle(getattr(_signal, name), self._forward)
        self._handle(_signal.SIGTSTP, self._stop)
        try:
            kind, number, fds = self._ask(request, descriptors)
            if kind != READY:
                return ALONE if kind in (OUTDATED, b"") else PLAIN
            self._child = _started(number, fds)
        finally:
            if self._child < 0:
                self._give_back()
        self._connection.settimeout(None)
        for pending in self._signals:
            self._send(pending)
        return self._wait()

    def _ask(self, request: bytes, descriptors: list[int]) -> tuple[bytes, int, list[int]]:
        packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in descriptors)
        sent = self._connection.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)])
        while sent < len(request):
            sent += self._connection.send(request[sent:])
        return self._receive()

    def _wait(self) -> int:
        while True:
            try:
                kind, number, fds = self._receive()
            except OSError:
                kind = b""
            if kind == EXIT:
                return number
            if kind != PAGER:
                return self._die()
            self._run_pager(number, fds)

    def _receive(self) -> tuple[bytes, int, list[int]]:
        """A message: its kind, which is empty if the other side has gone, its number, and descriptors."""
        data, packed, _, _ = self._connection.recvmsg(HEAD, 64)
        while data and len(data) < HEAD:
            more = self._connection.recv(HEAD - len(data))
            data = data + more if more else b""
        fds = [
            int.from_bytes(item[2][start : start + 4], sys.byteorder)
            for item in packed
            for start in range(0, len(item[2]), 4)
        ]
        return data[:1], int.from_bytes(data[1:], "big"), fds

    def _rest(self, size: int) -> bytes | None:
        """What follows the head of a message; None if the other side goes before all of it has come."""
        data = b""
        while len(data) < size:
            try:
                more = self._connection.recv(size - len(data))
            except OSError:
                return None
            if not more:
                return None
            data += more
        return data

    def _run_pager(self, size: int, fds: list[int]) -> None:
        """Run the pager, which needs our terminal, in the child's stead; the first descriptor is its input, the second
        is told that it has started, and closed when it has ended. Nothing, if the child dies while it asks."""
        data = self._rest(size)
        if data is None:
            for fd in fds:
                os.close(fd)
            return
        count, *words = data.split(b"\0")
        source, told = fds
        arguments = words[: int(count)]
        environment = dict(item.split(b"=", 1) for item in words[int(count) :])
        try:
            pager = os.posix_spawnp(
                arguments[0], arguments, environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, source, 0)], setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
            )  # fmt: skip
            os.write(told, b"\n")
        except OSError:
            pager = 0
        os.close(source)
        if pager:
            os.waitpid(pager, 0)
        os.close(told)

    # -- signals

    def _handle(self, number: int, handler: object) -> None:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handler)

    def _give_back(self) -> None:
        """What came while the server was asked is for the plain way."""
        for name in (*_SIGNALS, "SIGTSTP"):
            number = getattr(_signal, name)
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, _signal.default_int_handler if name == "SIGINT" else _signal.SIG_DFL)
        for number in self._signals:
            os.kill(os.getpid(), number)

    def _forward(self, number: int, _: object) -> None:
        self._signals.append(number)
        self._send(number)

    def _stop(self, _number: int, _: object) -> None:
        """Ctrl-Z. The child is nobody's job: the kernel would not have it stopped by the terminal's signal."""
        self._send(_signal.SIGSTOP)
        os.kill(os.getpid(), _signal.SIGSTOP)
        self._send(_signal.SIGCONT)

    def _send(self, number: int) -> None:
        if self._child >= 0:
            try:
                _signal.pidfd_send_signal(self._child, number)
            except OSError:
                pass

    def _die(self) -> int:
        """The child was killed: end as it did."""
        number: int = self._signals[-1] if self._signals else _signal.SIGKILL
        if number != _signal.SIGKILL:
            _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number


def _started(pid: int, fds: list[int]) -> int:
    """Give a child that is ready the word, by the socket that came with that; its pidfd. OSError if it has gone."""
    try:
        child = os.pidfd_open(pid)  # first: where there is no room for it, there may have been none for the socket
        try:
            os.write(fds[0], START)
        except OSError:
            os.close(child)
            raise
    finally:
        for fd in fds:
            os.close(fd)
    return child


def _must_be_plain(words: list[str]) -> bool:
    """Whether the interpreter was started in a way of its own, or a command line may want the terminal as its own: the
    child of a server has another session, so it would get no signals of the terminal, and could read from it while it
    is in the background."""
    if sys.flags.optimize or sys.flags.dev_mode or sys.flags.verbose or sys._xoptions or sys.warnoptions:
        return True
    position = 0
    while position < len(words) and words[position].startswith("-"):
        position += 2 if words[position] in _WITH_VALUE else 1
    verb, *rest = words[position:] or [""]
    if verb in _PLAIN_VERBS:
        return True
    if verb not in (*_MAY_NEED_TERMINAL, *_MAY_SIGN) or not any(map(os.isatty, (0, 1, 2))):
        return False
    if verb in _MAY_SIGN:
        return any(map(_asks_for_signature, rest))
    return verb == "attach" or any(map(_asks_for_terminal, rest))


def _asks_for_signature(word: str) -> bool:
    """--sign or --key; ssh-keygen may want a passphrase, and asks for it at the terminal."""
    return word in ("--sign", "-S", "-s") or word.startswith("--key")


def _asks_for_terminal(word: str) -> bool:
    """-i, -t, -a or a cluster with one of them; whether it is the container's own word does not matter."""
    if word.startswith("--"):
        return word in ("--interactive", "--tty", "--attach")
    return word.startswith("-") and not {"i", "t", "a"}.isdisjoint(word)


def _inherited() -> list[int] | None:
    """The descriptors that we were started with; None if a standard stream is closed, or there are too many."""
    names = os.listdir("/proc/self/fd")
    found = sorted(fd for fd in map(int, names) if fd < 3 or _is_inherited(fd))
    return found if found[:3] == [0, 1, 2] and len(found) <= _MOST_DESCRIPTORS else None


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False  # what listed them


def _request(argv: list[str], key: bytes, descriptors: list[int]) -> bytes:
    """The length of what follows, three counts, and as many words, all ended by NUL bytes: the key and the numbers of
    the descriptors, the arguments, the environment."""
    first = [key.replace(b"\0", b""), *(b"%d" % fd for fd in descriptors)]
    arguments = [os.fsencode(word) for word in argv]
    environment = [name + b"=" + value for name, value in posix.environ.items()]
    counts = [b"%d" % len(part) for part in (first, arguments, environment)]
    body = b"\0".join([*counts, *first, *arguments, *environment])
    return len(body).to_bytes(4, "big") + body


# -- where a server is


def run_directory() -> str:
    """Where a user's servers are: below XDG_RUNTIME_DIR, if it is his, else /run for root, /tmp for others."""
    uid = os.geteuid()
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    if given.startswith("/"):
        try:
            if os.stat(given).st_uid == uid:
                return f"{given}/treering"
        except OSError:
            pass
    return "/run/treering" if uid == 0 else f"/tmp/treering-{uid}"


def _open_directory() -> int | None:
    """A descriptor of the run directory; -1 if it is not there yet, None if it is not to be trusted."""
    try:
        directory = os.open(run_directory(), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    except OSError:
        return None
    if is_private(directory):
        return directory
    os.close(directory)
    return None


def is_private(directory: int) -> bool:
    """Whether a directory belongs to us, and nobody else can enter it."""
    status = os.fstat(directory)
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077


def surroundings() -> bytes:
    """What a server must have in common with its clients, and cannot take over from them: the program, what a process
    looks at when it starts, the cgroup it is accounted to, and the mounts it sees."""
    with open("/proc/self/cgroup", "rb", 0) as file:
        cgroup = file.read()
    variables = [name + b"=" + value for name, value in posix.environ.items() if matters(name)]
    program = f"{sys.prefix}\n{sys.version}\n{__file__}\n{os.readlink('/proc/self/ns/mnt')}"
    return b"\n".join([os.fsencode(program), *sorted(variables), cgroup])


def matters(variable: bytes) -> bool:
    """Whether a variable of the environment is one that a process looks at once, when it starts."""
    return (variable + b"=").startswith(_MATTER)


def name_of(key: bytes) -> str:
    """How the files of a server are called, from its surroundings."""
    return f"fork-{zlib.crc32(key):08x}"
