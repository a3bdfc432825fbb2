"""A Dockerfile's instructions -> the stages that its target needs, with every variable put in. Nothing is run for it.

All that a step does is known here but for the files themselves, since a config depends on the base's and on what the
Dockerfile says. So whatever is wrong, or not supported, is told with its line before anything is done.

    global     ARG before the first FROM: for FROM lines, and for an ARG without a value in a stage
    stage      ARG and ENV from the base on; ENV wins. RUN has build arguments in its environment, nothing else has
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from runtime.building.evaluation import Evaluation, arguments_of, check_flags
from runtime.building.parser import Dockerfile, Instruction, wrong
from runtime.building.steps import CONTEXT, Config, Origin, Stage
from runtime.building.variables import substituted
from vcs.errors import BadInput

STAGES_MAX = 200
PROXIES = frozenset(
    name for proxy in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (proxy, proxy.lower())
)  # fmt: skip
"""May be given without an ARG, and are no part of what a step depends on."""
_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")

_OF_LAYERS = frozenset({"rootfs", "history", "created"})
"""What an image's config says of its layers, and not of what is built on it."""

Resolve = Callable[[str, Instruction], Config]
"""The config of what FROM names; an error if there is none such."""


class Plan:
    """The stages that a target needs, in their order."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        resolve: Resolve,
        *,
        target: str | None = None,
        arguments: Mapping[str, str] | None = None,
        platform: tuple[str, str] = ("linux", "amd64"),
    ) -> None:
        """BadInput, with the line, for whatever cannot be built."""
        self._escape = dockerfile.escape
        self._resolve = resolve
        self._given = dict(arguments or {})
        self._used: set[str] = set()
        self._platform = platform
        self._global = _platform_arguments(platform)
        self._parts = self._split(dockerfile.instructions)
        self._names = self._stage_names()
        self._stages: dict[int, Stage] = {}
        self.target = self._target(target)
        self.stage(self.target)

    @property
    def stages(self) -> list[Stage]:
        """Those that are needed, each after all that it needs."""
        return [self._stages[number] for number in sorted(self._stages)]

    @property
    def unused(self) -> list[str]:
        """Build arguments that were given, and that no ARG asks for."""
        return sorted(self._given.keys() - self._used - PROXIES)

    def stage(self, number: int) -> Stage:
        """A stage, and with it all that it needs."""
        if number not in self._stages:
            self._stages[number] = Evaluation(self, number, self._parts[number]).run()
        return self._stages[number]

    # -- what the stages ask

    @property
    def escape(self) -> str:
        return self._escape

    def base(self, first: Instruction) -> tuple[Origin, Config]:
        """What a FROM names, and its config."""
        reference = self.words(first)[0]
        number = self._names.get(reference.lower())
        if number is not None and number < self._number_of(first):
            return Origin(stage=number), self.stage(number).config
        if reference == "scratch":
            system, machine = self._platform
            return CONTEXT, {"architecture": machine, "os": system, "config": {}}
        config = self._resolve(reference, first)
        return Origin(reference=reference), {key: value for key, value in config.items() if key not in _OF_LAYERS}

    def origin(self, reference: str, before: int, instruction: Instruction) -> Origin:
        """What --from names: an earlier stage by name or number, or an image."""
        number = self._names.get(reference.lower())
        if number is None and reference.isascii() and reference.isdigit() and len(reference) < 5:
            number = int(reference)
        if number is None:
            self._resolve(reference, instruction)
            return Origin(reference=reference)
        if number >= before:
            raise instruction.error(f"there is no stage {reference!r} before this one")
        self.stage(number)
        return Origin(stage=number)

    def argument(self, name: str, default: str | None, *, is_global: bool = False) -> str | None:
        """The value of an ARG."""
        self._used.add(name)
        if name in self._given:
            return self._given[name]
        return default if default is not None or is_global else self._global.get(name)

    @property
    def proxies(self) -> tuple[str, ...]:
        return tuple(f"{name}={value}" for name, value in sorted(self._given.items()) if name in PROXIES)

    # -- FROM

    def _split(self, instructions: Sequence[Instruction]) -> list[list[Instruction]]:
        parts: list[list[Instruction]] = []
        for found in instructions:
            check_flags(found)
            if found.word == "FROM":
                parts.append([found])
            elif parts:
                parts[-1].append(found)
            elif found.word == "ARG":
                for name, value in arguments_of(found, self._global, self._escape):
                    given = self.argument(name, value, is_global=True)
                    if given is not None:
                        self._global[name] = given
            else:
                raise found.error("only ARG can be before the first FROM")
        if not parts:
            raise wrong(1, "there is no FROM")
        if len(parts) > STAGES_MAX:
            raise parts[STAGES_MAX][0].error(f"more than {STAGES_MAX} stages")
        return parts

    def words(self, first: Instruction) -> list[str]:
        """What FROM says: a reference and perhaps a name."""
        words = [self._word(first, word) for word in first.rest.split()]
        is_named = len(words) == 3 and words[1].upper() == "AS"
        if not words[0] or (len(words) != 1 and not is_named):
            raise first.error("write FROM NAME or FROM NAME AS STAGE")
        return [words[0], words[2].lower()] if is_named else words

    def _word(self, instruction: Instruction, text: str) -> str:
        try:
            return substituted(text, self._global, self._escape)
        except ValueError as error:
            raise instruction.error(str(error)) from None

    def _stage_names(self) -> dict[str, int]:
        names: dict[str, int] = {}
        for number, (first, *_) in enumerate(self._parts):
            self._check_platform(first)
            for name in self.words(first)[1:]:
                if not _STAGE_NAME.fullmatch(name):
                    raise first.error(f"{name!r} cannot be a stage's name")
                if name in names:
                    raise first.error(f"there is a stage {name!r} already")
                names[name] = number
        return names

    def _check_platform(self, first: Instruction) -> None:
        for _, value in first.flags:
            wanted = self._word(first, value or "").split("/")
            if tuple(wanted[:2]) != self._platform:
                raise first.error(
                    f"the platform {'/'.join(wanted)!r} is not this machine's, {'/'.join(self._platform)}"
                )

    def _number_of(self, first: Instruction) -> int:
        return next(number for number, part in enumerate(self._parts) if part[0] is first)

    def _target(self, wanted: str | None) -> int:
        if wanted is None:
            return len(self._parts) - 1
        number = self._names.get(wanted.lower())
        if number is None and wanted.isascii() and wanted.isdigit() and int(wanted[:5]) < len(self._parts):
            number = int(wanted)
        if number is None:
            raise BadInput(f"the Dockerfile has no stage {wanted!r}", stages=[*self._names])
        return number


def _platform_arguments(platform: tuple[str, str]) -> dict[str, str]:
    system, machine = platform
    found = {"PLATFORM": f"{system}/{machine}", "OS": system, "ARCH": machine, "VARIANT": ""}
    return {f"{whose}{name}": value for whose in ("TARGET", "BUILD") for name, value in found.items()}
