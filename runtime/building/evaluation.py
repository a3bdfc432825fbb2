"""One stage of a Dockerfile, instruction by instruction: what each does, and the config after it.

What is not a stage's own (other stages, build arguments, bases) is asked of the plan, runtime.building.stages.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from runtime.building.mountoptions import run_mounts
from runtime.building.parser import Heredoc, Instruction, heredoc_words, parse_trigger
from runtime.building.steps import CONTEXT, Config, Copy, Directory, File, Origin, Run, Stage, Step, Work
from runtime.building.variables import split_words, substituted, substituted_raw
from runtime.imagechange import image_change
from vcs.errors import BadInput

_FLAGS = {
    "FROM": {"platform"}, "RUN": {"mount", "network", "security"}, "COPY": {"from", "chown", "chmod", "link"},
    "ADD": {"chown", "chmod", "link"}, "HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval",
    "retries"},
}  # fmt: skip
_NETWORKS = {"none": "none", "host": "host", "default": None}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL = ["/bin/sh", "-c"]
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@")


class Asked(Protocol):
    """What a stage asks of the plan; `stages.Plan` answers."""

    @property
    def escape(self) -> str: ...
    @property
    def proxies(self) -> tuple[str, ...]: ...
    def words(self, first: Instruction, /) -> list[str]: ...
    def base(self, first: Instruction, /) -> tuple[Origin, Config]: ...
    def origin(self, reference: str, before: int, instruction: Instruction, /) -> Origin: ...
    def argument(self, name: str, default: str | None, /) -> str | None: ...


class Evaluation:
    """One stage, instruction by instruction."""

    def __init__(self, plan: Asked, number: int, instructions: Sequence[Instruction]) -> None:
        self._plan = plan
        self._number = number
        self._first, *self._rest = instructions
        self._arguments: dict[str, str] = {}
        self._has_cmd = False
        self._steps: list[Step] = []
        self._config: Config = {}

    def run(self) -> Stage:
        names = self._plan.words(self._first)[1:]
        base, self._config = self._plan.base(self._first)
        for trigger in self._section().get("OnBuild") or ():
            self._take(parse_trigger(str(trigger), self._first.line, "\\"))
        if self._section().get("OnBuild"):
            self._set("OnBuild", None)
        inherited = len(self._steps)
        for found in self._rest:
            self._take(found)
        self._clear_triggers(inherited)
        return Stage(self._number, names[0] if names else "", self._first.line, base, self._config, tuple(self._steps))

    def _clear_triggers(self, upto: int) -> None:
        """The base's triggers have been run, and are not this stage's."""
        inherited = self._steps[:upto]
        for number, step in enumerate(inherited):
            section = {key: value for key, value in (step.config.get("config") or {}).items() if key != "OnBuild"}
            config = {**step.config, "config": section}
            self._steps[number] = Step(step.instruction, config, step.work, step.user)

    def _section(self) -> Mapping[str, Any]:
        found = self._config.get("config")
        return found if isinstance(found, Mapping) else {}

    def _take(self, found: Instruction) -> None:
        check_flags(found)
        if found.word == "ARG":
            for name, value in arguments_of(found, self._variables(), self._plan.escape):
                given = self._plan.argument(name, value)
                if given is not None:
                    self._arguments[name] = given
            return
        try:
            work = self._work(found)
        except ValueError as error:
            raise found.error(str(error)) from None
        user = str(self._section().get("User") or "")
        self._steps.append(Step(found, self._config, work, user))

    def _work(self, found: Instruction) -> Work:
        match found.word:
            case "RUN":
                return self._run(found)
            case "COPY" | "ADD":
                return self._copy(found)
            case "WORKDIR":
                self._change(f"WORKDIR {self._word(found.rest)}")
                return Directory(str(self._section()["WorkingDir"]))
        self._configure(found)
        return None

    # -- the config

    def _configure(self, found: Instruction) -> None:
        match found.word:
            case "ENV" | "LABEL":
                self._change(f"{found.word} {shlex.join(self._pairs(found))}")
            case "EXPOSE":
                self._change(f"EXPOSE {self._word(found.rest)}")
            case "VOLUME":
                words = found.items or [self._word(word) for word in found.rest.split()]
                self._change(f"VOLUME {json.dumps(words)}")
            case "USER" | "STOPSIGNAL":
                self._change(f"{found.word} {self._word(found.rest)}")
            case "HEALTHCHECK":
                flags = "".join(f"--{name}={value} " for name, value in found.flags)
                self._change(f"HEALTHCHECK {flags}{found.rest}")
            case "CMD":
                self._change(f"CMD {json.dumps(self._command(found))}")
                self._has_cmd = True
            case "ENTRYPOINT":
                kept = self._section().get("Cmd") if self._has_cmd else None
                self._change(f"ENTRYPOINT {json.dumps(self._command(found))}")
                if kept is not None:
                    self._set("Cmd", kept)
            case "SHELL":
                if not found.items:
                    raise ValueError('write SHELL ["PROGRAM", "ARGUMENT", ...]')
                self._set("Shell", found.items)
            case "ONBUILD":
                check_flags(parse_trigger(found.rest, found.line, self._plan.escape))
                self._set("OnBuild", [*(self._section().get("OnBuild") or ()), found.rest])
            case "MAINTAINER":
                self._config = {**self._config, "author": found.rest}

    def _change(self, line: str) -> None:
        try:
            self._config = image_change([line])(dict(self._config))
        except (BadInput, RecursionError) as error:
            raise ValueError(str(error)) from None

    def _set(self, name: str, value: Any) -> None:
        section = {**self._section(), name: value}
        if value is None:
            del section[name]
        self._config = {**self._config, "config": section}

    def _command(self, found: Instruction) -> list[str]:
        return found.items if found.items is not None else [*self._shell(), found.rest]

    def _shell(self) -> list[str]:
        shell = self._section().get("Shell")
        return list(shell) if isinstance(shell, list) and shell else _SHELL

    # -- variables

    def _variables(self) -> dict[str, str]:
        return {**self._arguments, **self._environment()}

    def _environment(self) -> dict[str, str]:
        return dict(str(item).partition("=")[::2] for item in self._section().get("Env") or ())

    def _word(self, text: str) -> str:
        done = substituted(text, self._variables(), self._plan.escape)
        if not done.strip():
            raise ValueError(f"nothing is left of {text!r}")
        return done

    def _pairs(self, found: Instruction) -> list[str]:
        words = split_words(found.rest, self._plan.escape)
        variables = self._variables()
        if "=" not in words[0]:
            name, _, value = found.rest.partition(" ")
            return [f"{name}={substituted(value.strip(), variables, self._plan.escape)}"]
        if wrong_one := [word for word in words if not word.partition("=")[0] or "=" not in word]:
            raise ValueError(f"{wrong_one[0]!r} is not NAME=VALUE")
        return [substituted(word, variables, self._plan.escape) for word in words]

    # -- RUN, COPY

    def _run(self, found: Instruction) -> Run:
        network = None
        for name, value in found.flags:
            if name == "network":
                if value not in _NETWORKS:
                    raise ValueError(f"--network={value} is not supported: none, host and default are")
                network = _NETWORKS[value]
            elif name == "security" and value != "sandbox":
                raise ValueError(f"--security={value} is not supported")
        environment = self._environment()
        args, script = self._command(found), None
        if found.heredocs:
            args, script = self._heredoc_command(found)
        return Run(
            tuple(args),
            script,
            tuple(f"{name}={value}" for name, value in sorted(self._arguments.items()) if name not in environment),
            tuple(proxy for proxy in self._plan.proxies if proxy.partition("=")[0] not in environment),
            tuple(run_mounts(found, self._expanded, lambda name: self._plan.origin(name, self._number, found))),
            network,
        )

    def _expanded(self, text: str) -> str:
        return substituted(text, self._variables(), self._plan.escape)

    def _heredoc_command(self, found: Instruction) -> tuple[list[str], bytes | None]:
        """A heredoc alone is the script; one behind a command is for the shell."""
        (match, *_), (first, *more) = heredoc_words(found.rest), found.heredocs
        if match[0] == found.rest and not more:
            if first.content.startswith("#!"):
                return [], first.content.encode()
            return [*self._shell(), first.content], None
        texts = "".join(f"{one.content}{one.name}\n" for one in found.heredocs)
        return [*self._shell(), f"{found.rest}\n{texts}"], None

    def _copy(self, found: Instruction) -> Copy:
        origin, chown, chmod = CONTEXT, None, None
        for name, value in found.flags:
            if name == "from":
                origin = self._plan.origin(value or "", self._number, found)
            elif name == "chown":
                chown = self._word(value or "")
            elif name == "chmod":
                chmod = _mode(self._word(value or ""))
        words = found.items if found.items is not None else found.rest.split()
        heredocs = {match[0]: one for match, one in zip(heredoc_words(found.rest), found.heredocs, strict=False)}
        if len(words) < 2:
            raise ValueError("write what is to be copied, and where to")
        files = tuple(self._file(heredocs[word]) for word in words[:-1] if word in heredocs)
        sources = tuple(self._word(word) for word in words[:-1] if word not in heredocs)
        if found.word == "ADD" and (remote := [one for one in sources if _REMOTE.match(one)]):
            raise ValueError(f"{remote[0]} is not on this machine: nothing is fetched from the network by ADD; use RUN")
        target = self._target(self._word(words[-1]), len(sources) + len(files) > 1)
        return Copy(sources, target, origin, files, chown, chmod, unpack=found.word == "ADD")

    def _file(self, heredoc: Heredoc) -> File:
        text = heredoc.content
        if heredoc.expand:
            text = substituted_raw(text, self._variables(), self._plan.escape)
        return File(heredoc.name, text.encode())

    def _target(self, text: str, several: bool) -> str:
        above = str(self._section().get("WorkingDir") or "/")
        path = "/" + posixpath.normpath(posixpath.join("/", above, text)).lstrip("/")
        is_directory = several or text.endswith(("/", "/.")) or text == "."
        return path if not is_directory or path == "/" else path + "/"


def check_flags(found: Instruction) -> None:
    """BadInput for a flag that is not known, or not supported."""
    known = _FLAGS.get(found.word, set())
    seen = set()
    for name, value in found.flags:
        if name not in known:
            raise found.error(f"the flag --{name} is not supported")
        if value is None and name != "link":
            raise found.error(f"--{name} has no value: write --{name}=VALUE")
        if name in seen and name != "mount":
            raise found.error(f"--{name} is there twice")
        seen.add(name)


def arguments_of(found: Instruction, variables: Mapping[str, str], escape: str) -> list[tuple[str, str | None]]:
    """The names of an ARG, and what they are by default."""
    done: list[tuple[str, str | None]] = []
    known = dict(variables)
    try:
        for word in split_words(found.rest, escape):
            name, equals, value = word.partition("=")
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} cannot be a variable's name")
            default = substituted(value, known, escape) if equals else None
            done.append((name, default))
            if default is not None:
                known[name] = default
    except ValueError as error:
        raise found.error(str(error)) from None
    return done


def _mode(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text):
        raise ValueError(f"--chmod={text} is not supported: write a number such as 755")
    return int(text, 8)
