"""Short commands, by the fork server and without it, next to podman's nearest, and docker's for `run --rm true`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.apart import in_namespace
from benchmarks.measure import in_turns, median
from benchmarks.peers.commands import COMMIT, RUN, VERBS, Commands, DockerCommands, PodmanCommands, Tool
from benchmarks.report import Section
from benchmarks.setting import Setting

_ROUNDS = 20
_QUICK_ROUNDS = 3
_RUN_LIMIT, _DOCKER_LIMIT = 0.4, 0.3
_LIMIT = 1.0

Times = dict[str, dict[str, list[float]]]
"""Seconds, by verb and tool."""


def verbs(setting: Setting) -> list[Section]:
    """One table. All of it is done in a mount namespace in which crun starts containers on machines with hybrid
    cgroups, for which podman does nothing."""
    section = Section("Short commands", "command")
    for name, is_there in (("podman", shutil.which("podman")), ("docker", DockerCommands.is_there())):
        if not is_there:
            section.note(f"{name} is left out: it is not installed.")
    times = in_namespace(lambda: _measure(setting))
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS
    section.note(
        f"{rounds} runs each, in turns; medians. The same Debian root, no network, the default seccomp profile."
    )
    for verb, by_tool in times.items():
        found = {tool: median(values) for tool, values in by_tool.items() if values}
        for tool, seconds in found.items():
            section.put(verb, tool, seconds * 1e3, "ms")
        for other, limit in (("podman", _RUN_LIMIT if verb == RUN else _LIMIT), ("docker", _DOCKER_LIMIT)):
            if other in found:
                ratio = found["treering"] / found[other]
                section.put(verb, f"to {other}", ratio, "×")
                section.claim("13", f"{verb}, of {other}'s time", ratio, limit)
    return [section]


def _measure(setting: Setting) -> Times:
    rounds = _QUICK_ROUNDS if setting.quick else _ROUNDS
    with tempfile.TemporaryDirectory(prefix="treering-verbs-") as directory:
        store = setting.place("verbs")
        ours = Commands(store, Path(directory))
        tools: dict[str, Tool] = {"treering": ours, "treering, no server": Commands(store, None)}
        if shutil.which("podman"):
            tools["podman"] = PodmanCommands(setting.place("verbs-podman"), Path(directory, "podman"))
        if DockerCommands.is_there():
            tools["docker"] = DockerCommands(setting.place("verbs-docker"), Path(directory, "docker"))
        try:
            for name, tool in tools.items():
                if name != "treering, no server":
                    tool.prepare(setting.debian())
            return {verb: _in_turns(verb, tools, rounds) for verb in VERBS}
        finally:
            for name, tool in tools.items():
                if name != "treering, no server":
                    tool.finish()


def _in_turns(verb: str, tools: Mapping[str, Tool], rounds: int) -> dict[str, list[float]]:
    def once(tool: Tool) -> Callable[[int], float | None]:
        def timed(number: int) -> float | None:
            if verb == COMMIT:
                tool.change()
            return tool.seconds(verb, number)

        return timed

    found = in_turns(rounds, {name: once(tool) for name, tool in tools.items()})
    return {name: [one for one in seconds if one is not None] for name, seconds in found.items()}
