"""Short commands, by the fork server and without it, next to podman's nearest: run --rm true, ps, commit and others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.measure import FailedError, in_turns, median, run
from benchmarks.peers.treering import COMMAND
from benchmarks.report import Section
from benchmarks.setting import Setting
from runtime.engine import hide_hybrid_cgroup
from runtime.mounts import private_mount_namespace

_ROUNDS = 20
_QUICK_ROUNDS = 3
_RUN_LIMIT = 0.4
_LIMIT = 1.0
_IMAGE, _OTHER, _CONTAINER, _STOPPED = "localhost/main", "localhost/other", "work", "stopped"
_CHANGE = "for i in 1 2 3 4 5 6 7 8 9 10; do date +%N >/etc/changed-$i; done"

Times = dict[str, dict[str, list[float]]]
"""Seconds, by verb and tool."""


def verbs(setting: Setting) -> list[Section]:
    """One table. All of it is done in a mount namespace in which crun starts containers on machines with hybrid
    cgroups, for which podman does nothing."""
    section = Section("Short commands", "command")
    peer = "" if shutil.which("podman") else "podman is left out: it is not installed."
    if peer:
        section.note(peer)
    times = _in_namespace(lambda: _measure(setting, with_podman=not peer))
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS
    section.note(
        f"{rounds} runs each, in turns; medians. The same Debian root, no network, the default seccomp profile."
    )
    for verb, by_tool in times.items():
        found = {tool: median(values) for tool, values in by_tool.items()}
        for tool, seconds in found.items():
            section.put(verb, tool, seconds * 1e3, "ms")
        if "podman" in found:
            ratio = found["treering"] / found["podman"]
            section.put(verb, "ratio", ratio, "×")
            section.claim("13", f"{verb}, of podman's time", ratio, _RUN_LIMIT if verb.startswith("run") else _LIMIT)
    return [section]


def _in_namespace(work: Callable[[], Times]) -> Times:
    """Do it in a process of its own, in a mount namespace of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            private_mount_namespace()
            hide_hybrid_cgroup()
            with os.fdopen(writer, "w") as told:
                json.dump(work(), told)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    try:
        with os.fdopen(reader) as heard:
            text = heard.read()
    except BaseException:
        os.kill(child, signal.SIGTERM)  # it cleans up, and ends
        os.waitpid(child, 0)
        raise
    if os.waitpid(child, 0)[1]:
        raise FailedError("the commands could not be measured: see above")
    found: Times = json.loads(text)
    return found


def _measure(setting: Setting, *, with_podman: bool) -> Times:
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS
    with tempfile.TemporaryDirectory(prefix="treering-verbs-") as directory:
        ours = _Treering(setting.place("verbs"), Path(directory))
        tools: dict[str, _Treering | _Podman] = {"treering": ours, "treering, no server": _Treering(ours.store, None)}
        podman = _Podman(setting.place("verbs-podman"), Path(directory, "podman")) if with_podman else None
        if podman:
            tools["podman"] = podman
        try:
            ours.prepare(setting.debian())
            if podman:
                podman.prepare(setting.debian())
            return {verb: _in_turns(verb, tools, rounds) for verb in _VERBS}
        finally:
            ours.finish()
            if podman:
                podman.finish()


def _in_turns(verb: str, tools: Mapping[str, _Treering | _Podman], rounds: int) -> dict[str, list[float]]:
    def once(tool: _Treering | _Podman) -> Callable[[int], float]:
        def timed(number: int) -> float:
            if verb.startswith("commit"):
                tool.change()
            return sum(tool.run(*words) for words in tool.commands(verb, number))

        return timed

    return in_turns(rounds, {name: once(tool) for name, tool in tools.items()})


_VERBS = ("run --rm true", "ps", "status", "diff", "commit of ten files", "branch", "log", "rollback")


class _Treering:
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

    def change(self) -> None:
        self.run("exec", _CONTAINER, "sh", "-c", _CHANGE)

    def commands(self, verb: str, number: int) -> list[list[str]]:
        return {
            "run --rm true": [["run", "--rm", "--network", "none", "main", "true"]],
            "ps": [["ps"]],
            "status": [["status", _CONTAINER]],
            "diff": [["diff", "main", "other"]],
            "commit of ten files": [["commit", _CONTAINER, "-m", f"{number}"]],
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


class _Podman:
    def __init__(self, place: Path, running: Path) -> None:
        self._options = ["podman", "--root", str(place), "--runroot", str(running), "--storage-driver", "overlay"]
        # What it asks for by default is more than a process without CAP_SYS_RESOURCE may have.
        limits = [f"--ulimit={name}=1024:1024" for name in ("nofile", "nproc")]
        self._new = ["--network", "none", *limits]

    def run(self, *words: str | Path) -> float:
        return run([*self._options, *words]).seconds

    def prepare(self, root: Path) -> None:
        script = 'source=$1; shift; tar -C "$source" -c . | "$@" import --quiet - ' + _IMAGE
        run(["sh", "-ec", script, "sh", root, *self._options])
        self.run("run", "--name", _STOPPED, *self._new, _IMAGE, "sh", "-c", _CHANGE)
        self.run("commit", "--quiet", _STOPPED, _OTHER)
        self.run("run", "-d", "--name", _CONTAINER, *self._new, _IMAGE, "sleep", "inf")

    def change(self) -> None:
        self.run("exec", _CONTAINER, "sh", "-c", _CHANGE)

    def commands(self, verb: str, number: int) -> list[list[str]]:
        return {
            "run --rm true": [["run", "--rm", *self._new, _IMAGE, "true"]],
            "ps": [["ps"]],
            "status": [["diff", _CONTAINER]],
            "diff": [["diff", _IMAGE, _OTHER]],
            "commit of ten files": [["commit", "--quiet", _CONTAINER, f"localhost/again-{number}"]],
            "branch": [["tag", _IMAGE, "localhost/tagged"]],
            "log": [["history", _OTHER]],
            "rollback": [["rm", _STOPPED], ["create", "--name", _STOPPED, *self._new, _IMAGE, "true"]],
        }[verb]

    def finish(self) -> None:
        for words in (["rm", "--all", "--force", "--time", "0"], ["umount", "--all", "--force"]):
            subprocess.run([*self._options, *words], capture_output=True, timeout=120, check=False)
