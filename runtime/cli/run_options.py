"""The options of `run` and `create`, which are the same, in groups. What they come to is run_settings' business."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime.cli import specs
from vcs.errors import BadInput

F = TypeVar("F", bound=Callable[..., Any])


class Word(click.ParamType[Any]):
    """A value that a function of runtime.cli.specs reads."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except (ValueError, BadInput) as error:
            self.fail(str(error), param, ctx)


class GroupedOption(click.Option):
    """An option that `--help` shows under a title."""

    def __init__(self, *args: Any, group: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose `--help` has a section for each group of options, and the others last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title, _ in _GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "group", "Other options"), []).append(record)
        for title, records in filter(all, sections.items()):
            with formatter.section(title):
                formatter.write_dl(records)


def _capability(text: str) -> str:
    from runtime.bundle.capabilities import capability

    return capability(text)


FILE = click.Path(path_type=Path)


def _word(name: str, read: Callable[[str], Any]) -> dict[str, Any]:
    return {"type": Word(name.lower(), read), "metavar": name}


_PROCESS = (
    (("-i", "--interactive"), {"is_flag": True, "help": "Pass standard input on."}),
    (("-t", "--tty"), {"is_flag": True, "help": "Give it a terminal."}),
    (("-e", "--env", "env"), {"multiple": True, "metavar": "NAME[=VALUE]",
        "help": "Set an environment variable, or pass on one of yours."}),
    (("--env-file", "env_files"), {"multiple": True, "type": FILE, "metavar": "FILE",
        "help": "A file with a NAME=VALUE on each line."}),
    (("-w", "--workdir"), {"metavar": "DIRECTORY", "help": "Where the command starts."}),
    (("-u", "--user"), {"metavar": "USER[:GROUP]", "help": "Who runs the command; names are the container's own."}),
    (("--entrypoint",), {**_word("COMMAND", specs.entrypoint),
        "help": "Instead of the commit's, quoted as for a shell; '' for none."}),
    (("--stop-signal",), {**_word("SIGNAL", specs.stop_signal), "help": "Asks it to end, instead of the commit's."}),
    (("--stop-timeout",), {**_word("SECONDS", specs.duration), "help": "Until it is killed then; otherwise 10."}),
)  # fmt: skip
_FILES = (
    (("-v", "--volume", "volumes"), {"multiple": True, **_word("SOURCE:TARGET[:OPTIONS]", specs.volume),
        "help": "Show a path of the machine in it; ro, rshared, noexec are options. A missing SOURCE is made."}),
    (("--mount", "mounts"), {"multiple": True, **_word("type=TYPE,...", specs.mount),
        "help": "type=bind,source=PATH,target=PATH[,readonly] or type=tmpfs,target=PATH[,tmpfs-size=64m]."}),
    (("--tmpfs", "tmpfs"), {"multiple": True, **_word("TARGET[:OPTIONS]", specs.tmpfs),
        "help": "A place in memory; size=64m, mode=755, exec are options."}),
    (("--read-only",), {"is_flag": True, "help": "Let it write nothing to its root."}),
    (("--volatile",), {"is_flag": True,
        "help": "Flush nothing of what it writes: faster, and damaged if the machine stops."}),
)  # fmt: skip
_NETWORK = (
    (("--network",), {**_word("NAME", specs.network),
        "help": "host (the machine's; the default), none, bridge (the default with -p), or one that was made."}),
    (("-p", "--publish"), {"multiple": True, **_word("[[ADDRESS:]HOST:]PORT[/udp]", specs.ports),
        "help": "Let the machine listen for it; ranges such as 8000-8010:80-90 too."}),
    (("--hostname",), {**_word("NAME", specs.hostname), "help": "Otherwise, the container's name."}),
    (("--add-host", "hosts"), {"multiple": True, **_word("NAME:ADDRESS", specs.host_line),
        "help": "A line of /etc/hosts."}),
)  # fmt: skip
_LIMITS = (
    (("-m", "--memory"), {**_word("SIZE", specs.memory), "help": "At most so much memory, such as 512m or 2g."}),
    (("--cpus",), {**_word("NUMBER", specs.cpus), "help": "At most so many processors, such as 1.5."}),
    (("--pids-limit",), {**_word("NUMBER", specs.pids), "help": "At most so many processes and threads."}),
)
_SECURITY = (
    (("--cap-add",), {"multiple": True, **_word("CAPABILITY", _capability),
        "help": "Give it a capability, such as NET_ADMIN, or ALL."}),
    (("--cap-drop",), {"multiple": True, **_word("CAPABILITY", _capability), "help": "Take one away, or ALL."}),
    (("--privileged",), {"is_flag": True,
        "help": "Everything that root of the machine may: only for what you trust with the machine."}),
    (("--userns",), {"type": click.Choice(("host", "auto")), "default": "host", "show_default": True,
        "help": "auto: users and groups of its own, which are nobody's on the machine."}),
    (("--security-opt",), {"multiple": True, "metavar": "OPTION",
        "help": "no-new-privileges, seccomp=unconfined or seccomp=FILE."}),
)  # fmt: skip
_LIFE = (
    (("--name",), {"metavar": "NAME", "help": "The container's name; otherwise it is named after REV."}),
    (("-l", "--label", "labels"), {"multiple": True, **_word("NAME[=VALUE]", specs.label), "help": "A note on it."}),
    (("--label-file", "label_files"), {"multiple": True, "type": FILE, "metavar": "FILE",
        "help": "A file with a NAME=VALUE on each line."}),
    (("--rm", "remove"), {"is_flag": True, "help": "Remove the container, with what it wrote, when it ends."}),
    (("--restart",), {**_word("POLICY", specs.restart),
        "help": "When it ends: no, on-failure[:TIMES], always or unless-stopped."}),
    (("--autocommit",), {**_word("WHEN", specs.autocommit),
        "help": "Commit what changed: every=30s, exec (after each), or exit."}),
    (("--no-profile",), {"is_flag": True, "help": "Neither use the commit's start profile nor add to it."}),
    (("--runtime", "engine"), {"metavar": "crun|runc", "help": "Which OCI runtime; otherwise the best installed."}),
)  # fmt: skip
_HEALTH = (
    (("--health-cmd",), {"metavar": "COMMAND", "help": "A shell's line that tells whether it is well."}),
    (("--health-interval",), {**_word("TIME", specs.duration), "help": "Between two such looks; otherwise 30s."}),
    (("--health-timeout",), {**_word("TIME", specs.duration), "help": "After which one has failed; otherwise 30s."}),
    (("--health-retries",), {"type": click.IntRange(min=1), "metavar": "NUMBER",
        "help": "Failures in a row until it is unhealthy; otherwise 3."}),
    (("--health-start-period",), {**_word("TIME", specs.duration), "help": "While failures do not count."}),
    (("--no-healthcheck",), {"is_flag": True, "help": "Not the commit's health check either."}),
)  # fmt: skip
_LOG = (
    (("--no-log",), {"is_flag": True, "help": "Keep nothing of what it prints."}),
    (("--log-size",), {**_word("SIZE", specs.size), "help": "Of one file of its log; otherwise 16m."}),
    (("--log-files",), {"type": click.IntRange(min=1), "metavar": "NUMBER", "help": "How many are kept; otherwise 4."}),
)
_GROUPS: tuple[tuple[str, tuple[tuple[tuple[str, ...], dict[str, Any]], ...]], ...] = (
    ("Process", _PROCESS),
    ("Files", _FILES),
    ("Network", _NETWORK),
    ("Limits", _LIMITS),
    ("Security", _SECURITY),
    ("Container", _LIFE),
    ("Health", _HEALTH),
    ("Log", _LOG),
)


_THROWAWAY = frozenset(
    ("env", "env_files", "workdir", "user", "entrypoint", "volumes", "mounts", "tmpfs", "read_only", "network", "hosts",
     "memory", "cpus", "pids_limit", "cap_add", "cap_drop", "privileged", "userns", "security_opt", "engine")
)  # fmt: skip
_OTHERWISE = {"network": {"help": "none (the default), host (the machine's), bridge, or one that was made."}}


def container_options(command: F) -> F:
    """All options that say how a container is run; the function gets them as keywords, for run_settings."""
    for words, settings, group in reversed(_options()):
        command = click.option(*words, cls=GroupedOption, group=group, **settings)(command)
    return command


def throwaway_options(command: F) -> F:
    """Those that make sense for a container which is run once, and removed. The function gets all others too: --rm,
    --no-log and --no-healthcheck as if they had been given, and the rest as if not. Without --network there is none."""
    others: dict[str, Any] = {}

    @wraps(command)
    def filled(*args: Any, **asked: Any) -> Any:
        return command(*args, **{**others, **asked, "network": asked["network"] or "none"})

    made: Any = filled
    for words, settings, group in reversed(_options()):
        name = str(GroupedOption(words, group=group, **settings).name)
        if name in _THROWAWAY:
            made = click.option(*words, cls=GroupedOption, group=group, **{**settings, **_OTHERWISE.get(name, {})})(
                made
            )
        elif settings.get("multiple"):
            others[name] = ()
        else:
            others[name] = (
                name in ("remove", "no_log", "no_healthcheck") if settings.get("is_flag") else settings.get("default")
            )
    return made  # type: ignore[no-any-return]


def _options() -> list[tuple[tuple[str, ...], dict[str, Any], str]]:
    return [(words, settings, group) for group, members in _GROUPS for words, settings in members]
