"""Tools whose short commands are timed: ours, by a fork server and without it, podman and docker."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Protocol

from benchmarks.measure import FailedError, run
from benchmarks.peers.treering import COMMAND

RUN, COMMIT = "run --rm true", "commit of ten files"
VERBS = (RUN, "ps", "status", "diff", COMMIT, "branch", "log", "rollback")

_IMAGE, _OTHER, _CONTAINER, _STOPPED = "localhost/main", "localhost/other", "work", "stopped"
_CHANGE = "for i in 1 2 3 4 5 6 7 8 9 10; do date +%N >/etc/changed-$i; done"
_IMPORT = 'source=$1; shift; tar -C "$source" -c . | "$@" - ' + _IMAGE
_DAEMON_SECONDS = 30.0


class Tool(Protocol):
    """One who has a container that runs, and one that has ended."""

    def prepare(self, root: Path) -> None:
        """Have a root filesystem, and containers on it."""

    def change(self) -> None:
        """Change ten files in the container that runs."""

    def seconds(self, verb: str, number: int) -> float | None:
        """How long what comes nearest to a verb takes; None if it is not compared."""

    def finish(self) -> None:
        """Leave nothing mounted or running."""


class _ByCommands(ABC):
    """A tool for which there are commands for each verb."""

    @abstractmethod
    def run(self, *words: str | Path) -> float:
        """Seconds of one command."""

    @abstractmethod
    def _commands(self, verb: str, number: int) -> list[list[str]]: ...

    def change(self) -> None:
        self.run("exec", _CONTAINER, "sh", "-c", _CHANGE)

    def seconds(self, verb: str, number: int) -> float | None:
        return sum(self.run(*words) for words in self._commands(verb, number))


class Commands(_ByCommands):
    """With a fork server whose files are in `servers`, or without one."""

    def __init__(self, store: Path, servers: Path | None) -> None:
        self.store = store
        self._environment = {
            "TREERING_STORE": str(store),
            "TREERING_AUTHOR_NAME": "Benchmark",
            "TREERING_AUTHOR_EMAIL": "benchmark@localhost",
            "TREERING_FORK_SERVER": str(int(servers is not None)),
            **({"XDG_RUNTIME_DIR": str(servers)} if servers else {}),
        }

    def run(self, *words: str | Path) -> float:
        return run([COMMAND, *words], self._environment).seconds

    def prepare(self, root: Path) -> None:
        self.run("init")
        self.run("import", root, "-b", "main", "-m", "base")
        self.run("run", "--name", _STOPPED, "--network", "none", "main", "sh", "-c", _CHANGE)
        self.run("commit", _STOPPED, "-b", "other", "-m", "other")
        self.run("run", "-d", "--name", _CONTAINER, "--network", "none", "main", "sleep", "inf")

    def _commands(self, verb: str, number: int) -> list[list[str]]:
        return {
            RUN: [["run", "--rm", "--network", "none", "main", "true"]],
            "ps": [["ps"]],
            "status": [["status", _CONTAINER]],
            "diff": [["diff", "main", "other"]],
            COMMIT: [["commit", _CONTAINER, "-m", f"{number}"]],
            "branch": [["branch", "--force", "again", "main"]],
            "log": [["log", "other"]],
            "rollback": [["rollback", _STOPPED, "main"]],
        }[verb]

    def finish(self) -> None:
        for words in (["rm", "-f", "--discard", _CONTAINER, _STOPPED], ["service", "stop", "--force"]):
            subprocess.run(
                [COMMAND, *words],
                env={**os.environ, **self._environment},
                capture_output=True,
                timeout=120,
                check=False,
            )


class PodmanCommands(_ByCommands):
    def __init__(self, place: Path, running: Path) -> None:
        self._options = ["podman", "--root", str(place), "--runroot", str(running), "--storage-driver", "overlay"]
        # What it asks for by default is more than a process without CAP_SYS_RESOURCE may have.
        limits = [f"--ulimit={name}=1024:1024" for name in ("nofile", "nproc")]
        self.new = ["--network", "none", *limits]
        """What `run` and `create` are told."""

    def run(self, *words: str | Path) -> float:
        return run([*self._options, *words]).seconds

    def prepare(self, root: Path) -> None:
        run(["sh", "-ec", _IMPORT, "sh", root, *self._options, "import", "--quiet"])
        self.run("run", "--name", _STOPPED, *self.new, _IMAGE, "sh", "-c", _CHANGE)
        self.run("commit", "--quiet", _STOPPED, _OTHER)
        self.run("run", "-d", "--name", _CONTAINER, *self.new, _IMAGE, "sleep", "inf")

    def _commands(self, verb: str, number: int) -> list[list[str]]:
        return {
            RUN: [["run", "--rm", *self.new, _IMAGE, "true"]],
            "ps": [["ps"]],
            "status": [["diff", _CONTAINER]],
            "diff": [["diff", _IMAGE, _OTHER]],
            COMMIT: [["commit", "--quiet", _CONTAINER, f"localhost/again-{number}"]],
            "branch": [["tag", _IMAGE, "localhost/tagged"]],
            "log": [["history", _OTHER]],
            "rollback": [["rm", _STOPPED], ["create", "--name", _STOPPED, *self.new, _IMAGE, "true"]],
        }[verb]

    def finish(self) -> None:
        for words in (["rm", "--all", "--force", "--time", "0"], ["umount", "--all", "--force"]):
            subprocess.run([*self._options, *words], capture_output=True, timeout=120, check=False)


class DockerCommands:
    """Only `run`, which the daemon that is started for it has a part in. Nothing is published, so it has no bridge."""

    def __init__(self, place: Path, running: Path) -> None:
        self._place = place
        self._running = running
        self._options = ["docker", "--host", f"unix://{running}/sock"]
        self._daemon: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_there() -> bool:
        """Whether it is installed, daemon and all."""
        return all(map(shutil.which, ("docker", "dockerd", "containerd")))

    def prepare(self, root: Path) -> None:
        self._running.mkdir()
        log = self._running / "log"
        words = ["--data-root", self._place, "--exec-root", self._running / "exec", "--pidfile", self._running / "pid"]
        apart = ["--iptables=false", "--ip6tables=false", "--bridge=none"]
        with log.open("wb") as output:
            self._daemon = subprocess.Popen(
                ["dockerd", *map(str, words), *apart, *self._options[1:]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        deadline = time.monotonic() + _DAEMON_SECONDS
        while subprocess.run([*self._options, "version"], capture_output=True, check=False).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise FailedError(f"dockerd does not answer: {log.read_text()[-300:]}")
            time.sleep(0.1)
        run(["sh", "-ec", _IMPORT, "sh", root, *self._options, "import"])

    def change(self) -> None:
        pass

    def seconds(self, verb: str, number: int) -> float | None:
        if verb != RUN:
            return None
        return run([*self._options, "run", "--rm", "--network", "none", _IMAGE, "true"]).seconds

    def finish(self) -> None:
        if self._daemon:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(_DAEMON_SECONDS)
